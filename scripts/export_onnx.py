"""
Exports a model to ONNX: fp16 weights, the largest matrices in 8 bits, fp32 arithmetic.

    pip install onnx==1.23.2 onnxscript==0.7.2
    python -m scripts.export_onnx --model . --images assets/portraits --output onnx/model.onnx
    python -m scripts.export_onnx --quantized --images my_photos --output onnx/model_quantized.onnx

The faces in the images are read by both models. If an age or an end of an interval differs by more than a year, or a gender that is no
toss-up, nothing is written. `--quantized` computes the encoders in 8 bits, with ranges from these faces: give a hundred of the kind that
it will read. Its answers differ by more; how much is printed.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from data.sources import Source
from face_detection import open_session
from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_pipeline
from metrics.results import name_count
from modeling_agegender import AgeGenderModel


OPSET = 20
LARGE = 500_000  # numbers
CALIBRATION_BATCH = 8
MAX_YEARS = 1
TOSS_UP = 0.51  # probability of a gender below which either may be named
OUTPUTS = ("age_logits", "gender_logits", "age", "age_interval")


def export_onnx(model: AgeGenderModel):
    """
    Converts a model in eval mode to ONNX.

    The input is `pixel_values`, `(batch, 3, image_size, image_size)` float32. The outputs are those in `OUTPUTS`, as in
    `AgeGenderOutput`.

    Returns:
        The `onnx.ModelProto`, without paths and names of this machine in it.
    """
    side = model.config.image_size
    pixel_values = torch.zeros(2, model.config.num_channels, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations within the exporter
        program = torch.onnx.export(
            model,
            (pixel_values,),
            dynamo=True,
            optimize=False,  # ONNX Runtime folds batch normalization itself, in float32
            opset_version=OPSET,
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
            input_names=["pixel_values"],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    proto = program.model_proto
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        part.ClearField("metadata_props")  # stack traces with paths of source files
        part.ClearField("doc_string")
    return proto


def make_file(proto, model: AgeGenderModel) -> bytes:
    """
    Returns the content of an ONNX file, which names the weights and configuration of the model that `proto` was made from.

    Kernels and matrices are stored as float16, and the largest ones as int8 with a scale for each output. ONNX Runtime makes them
    float32 again when it reads the file.
    """
    from onnx import TensorProto, helper, numpy_helper  # only here: nothing but this export needs it

    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            name, values = tensor.name, numpy_helper.to_array(tensor)
            if values.size < LARGE:
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
                casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=TensorProto.FLOAT))
            else:
                scales = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True).clip(1e-12) / 127
                tensor.CopyFrom(numpy_helper.from_array(np.round(values / scales).astype(np.int8), f"{name}_bytes"))
                proto.graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), f"{name}_scales"))
                casts.append(helper.make_node("Cast", [tensor.name], [f"{name}_whole"], to=TensorProto.FLOAT))
                casts.append(helper.make_node("Mul", [f"{name}_whole", f"{name}_scales"], [name]))
    nodes = [*casts, *proto.graph.node]
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    helper.set_model_props(proto, {"digest": model.compute_digest()})
    return proto.SerializeToString()


def quantize(model: AgeGenderModel, pixel_values: torch.Tensor):
    """
    Converts a model to ONNX whose convolutions compute in 8 bits, with ranges from images; heads and what follows stay float.

    Args:
        model: A model in eval mode, with batch normalization folded into its convolutions.
        pixel_values: `(num_images, 3, image_size, image_size)` float32.
    """
    import onnx  # only here: nothing but this export needs it
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self):
            self.batches: Iterator[torch.Tensor] = iter(pixel_values.split(CALIBRATION_BATCH))

        def get_next(self) -> dict | None:
            batch = next(self.batches, None)
            return None if batch is None else {"pixel_values": batch.numpy()}

    with TemporaryDirectory() as folder:
        whole, shaped, quantized = (str(Path(folder) / f"{name}.onnx") for name in ("whole", "shaped", "quantized"))
        onnx.save(export_onnx(model), whole)
        quant_pre_process(whole, shaped, skip_symbolic_shape=True)
        quantize_static(shaped, quantized, Images(), op_types_to_quantize=["Conv"], per_channel=True)
        return onnx.load(quantized)


@torch.no_grad()
def find_differences(model: AgeGenderModel, content: bytes, pixel_values: torch.Tensor) -> dict[str, float]:
    """
    Counts the images for which an ONNX model gives another `age`, `age_interval` or `gender` than the model itself, without genders
    that are as probable. `mean_years` is the mean difference of the ages, `most_years` the largest one of an age or an end of an interval.
    """
    outputs = dict(zip(OUTPUTS, open_session(content).run(list(OUTPUTS), {"pixel_values": pixel_values.numpy()})))
    expected = model(pixel_values)
    ages = np.abs(outputs["age"] - expected.age.numpy())
    intervals = np.abs(outputs["age_interval"] - expected.age_interval.numpy()).max(axis=1)
    genders = outputs["gender_logits"].argmax(1) != expected.gender_logits.argmax(1).numpy()
    genders &= expected.gender_logits.softmax(1).amax(1).numpy() >= TOSS_UP
    return {
        "age": int((ages > 0).sum()),
        "age_interval": int((intervals > 0).sum()),
        "gender": int(genders.sum()),
        "mean_years": round(float(ages.mean()), 2),
        "most_years": round(float(max(ages.max(), intervals.max())), 2),
    }


def load_crops(pipe, path: str) -> list[Image.Image]:
    """Returns the faces of the photos of a folder, cropped."""
    photos = [entry.read() for entry in Source(path, labelled=False).entries()]
    return [face["crop"] for faces in pipe(photos, return_crops=True) for face in faces]


def main():
    parser = OutputParser(description="Exports a model to ONNX.")
    parser.add_argument("--model", default=".", help="Folder or Hub id of an AgeGenderModel. Default: this folder.")
    parser.add_argument("--images", required=True, help="Photos, as for predict.py, whose faces both models read.")
    parser.add_argument("--quantized", action="store_true", help="Compute the encoders in 8 bits.")
    parser.add_output(required=True, help="File to write, such as onnx/model.onnx.")
    arguments = parser.parse_args()
    pipe = load_pipeline(arguments.model, device=torch.device("cpu"))
    crops = load_crops(pipe, arguments.images)
    if not crops:
        raise ValueError(f"{arguments.images} holds no face: give photos with faces, to compare the answers.")
    pixel_values = pipe.image_processor(crops).pixel_values
    proto = quantize(pipe.network, pixel_values) if arguments.quantized else export_onnx(pipe.model)
    content = make_file(proto, pipe.model)
    differences = find_differences(pipe.model, content, pixel_values)
    if (differences["gender"] or differences["most_years"] > MAX_YEARS) and not arguments.quantized:
        raise ValueError(
            f"The ONNX model answers otherwise than {arguments.model}: {differences}. Nothing was written."
        )
    Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_bytes(content)
    print(
        f"Wrote {arguments.output}: {len(content) / 1e6:.2f} MB. {name_count(len(crops), 'face')} compared, other answers: "
        f"{differences}."
    )


if __name__ == "__main__":
    run(main)
