"""Image processor of AgeGender: from a face crop to normalised pixels."""

try:
    from .configuration_agegender import AgeGenderConfig
except ImportError:
    if __package__:  # remote code: what is missing is not this file but what it says
        raise
    from configuration_agegender import AgeGenderConfig

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling


class AgeGenderImageProcessor(PilBackend):
    """
    Turns face crops in UTKFace's framing into the pixels that [`AgeGenderModel`] takes.

    Takes one image or a list (PIL images of any mode, uint8 arrays or tensors, channels first or last), converts to RGB,
    resizes to `size`, rescales to 0–1 and normalises with `image_mean` and `image_std` (RGB, of a 0–1 scale).

    Returns `pixel_values` of shape `(batch_size, 3, height, width)`, float32.

    The default mean and standard deviation are those of the face-pretrained start: subtracted means 123.68, 116.779 and
    103.939 of a 0–255 scale, divided by one level.

    Raises:
        ValueError: if there is no image, or if an array holds floats while `do_rescale` is set.
    """

    model_input_names = ["pixel_values"]
    do_convert_rgb = True
    do_resize = True
    size = {"height": AgeGenderConfig.image_size, "width": AgeGenderConfig.image_size}
    resample = PILImageResampling.BILINEAR
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = [123.68 / 255, 116.779 / 255, 103.939 / 255]
    image_std = [1 / 255, 1 / 255, 1 / 255]

    def _prepare_images_structure(self, images, expected_ndims: int = 3):
        images = super()._prepare_images_structure(images, expected_ndims=expected_ndims)
        if len(images) == 0:
            raise ValueError("There is no image to process: got an empty list.")
        return images

    def process_image(self, image, do_rescale: bool | None = None, **kwargs) -> np.ndarray:
        """One image of any accepted kind to an RGB array (3, height, width)."""
        if hasattr(image, "numpy"):
            image = image.numpy()
        if isinstance(image, np.ndarray) and image.dtype != np.uint8 and do_rescale:
            raise ValueError(
                f"Arrays must hold uint8 pixels (0–255), got {image.dtype}: convert them, or pass do_rescale=False for "
                "floats that are 0–1 already."
            )
        if isinstance(image, Image.Image):
            image = to_8_bits(image)
        return super().process_image(image, do_rescale=do_rescale, **kwargs)


def to_8_bits(image: Image.Image) -> Image.Image:
    """A PIL image of 16-bit grey values as one of 8 bits, where PIL would cut them off at 255; others as they are."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))


AgeGenderImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = ["AgeGenderImageProcessor"]
