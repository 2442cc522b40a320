"""PyTorch AgeGender model: convolutional encoders side by side, an age head and a gender head."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


try:
    from .configuration_agegender import AgeGenderConfig
    from .image_processing_agegender import (
        compute_age,
        compute_mean_age,
        make_age_classes,
        resize,
    )
    from .pipeline_agegender import AgeGenderPipeline  # registers the task
except ImportError:
    if __package__:  # remote code: the file is there, so this is an error in it, such as an old transformers
        raise
    from configuration_agegender import AgeGenderConfig
    from image_processing_agegender import (
        compute_age,
        compute_mean_age,
        make_age_classes,
        resize,
    )
    from pipeline_agegender import AgeGenderPipeline

from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput, can_return_tuple


@dataclass
class AgeGenderOutput(ModelOutput):
    """
    Output of [`AgeGenderModel`]. `loss`, `age` and `age_interval` are float32 at any precision of the model.

    Args:
        loss (shape `()`, *optional*, returned when labels are provided): Weighted sum of age loss and gender loss.
        age_logits (shape `(batch_size, num_age_classes)`): Scores of the ages 0, 1, 2, … years, before the softmax.
        gender_logits (shape `(batch_size, 2)`): Scores of the classes of `config.id2label`, before the softmax.
        age (shape `(batch_size,)`): `config.age_statistic` in years. The median is whole and has no gradient.
        age_interval (shape `(batch_size, 2)`): First and last age in years of the 90 % range: it contains `age` and, with
            calibrated `config.age_interval_levels`, the labelled age of 90 % of faces.
    """

    loss: torch.FloatTensor | None = None
    age_logits: torch.FloatTensor | None = None
    gender_logits: torch.FloatTensor | None = None
    age: torch.FloatTensor | None = None
    age_interval: torch.FloatTensor | None = None


class AgeGenderBatchNorm(nn.BatchNorm2d):
    """Batch normalization that stays in float32 in a model of half precision: variances exceed float16."""

    def _apply(self, fn, recurse: bool = True):  # through which all casts of a module go: `to`, `half`, `bfloat16`
        def apply(tensor: torch.Tensor) -> torch.Tensor:
            result = fn(tensor)
            is_half = result.dtype in (torch.float16, torch.bfloat16)
            return tensor.to(result.device, torch.float32) if is_half else result

        return super()._apply(apply, recurse)


class AgeGenderConvLayer(nn.Module):
    """
    Convolution, batch normalization (or a bias) and activation. The padding is TensorFlow's "same", as in face-pretrained
    MobileNets: with kernel 3, stride 2 and an even side, no pixel before and one after the image.
    """

    def __init__(
        self,
        config: AgeGenderConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        use_activation: bool = True,
    ):
        super().__init__()
        padding = kernel_size // 2 if stride == 1 else 0  # at a stride, `forward` pads
        bias = not config.use_batch_norm
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        self.normalization = nn.Identity()
        if config.use_batch_norm:
            self.normalization = AgeGenderBatchNorm(out_channels, config.batch_norm_eps, config.batch_norm_momentum)
        self.activation = ACT2FN[config.hidden_act] if use_activation else nn.Identity()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Maps (batch, in_channels, height, width) to (batch, out_channels, ceil(height / stride), ceil(width / stride))."""
        kernel_size, stride = self.convolution.kernel_size[0], self.convolution.stride[0]
        if stride > 1:
            padding = []
            for side in reversed(hidden_states.shape[-2:]):
                outputs = (side + stride - 1) // stride  # no negative numbers, which ONNX rounds the other way
                total = max((outputs - 1) * stride + kernel_size - side, 0)
                padding += [total // 2, total - total // 2]
            hidden_states = F.pad(hidden_states, padding)
        return self.activation(self.normalization(self.convolution(hidden_states)))


class AgeGenderConvBlock(GradientCheckpointingLayer):
    """One convolution layer."""

    def __init__(self, config, in_channels: int, out_channels: int, kernel_size: int, stride: int):
        super().__init__()
        self.layer = AgeGenderConvLayer(config, in_channels, out_channels, kernel_size, stride)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.layer(hidden_states)


class AgeGenderSeparableBlock(GradientCheckpointingLayer):
    """Depthwise convolution, then pointwise convolution (MobileNet-v1, https://huggingface.co/papers/1704.04861)."""

    def __init__(self, config, in_channels: int, out_channels: int, kernel_size: int, stride: int):
        super().__init__()
        self.depthwise = AgeGenderConvLayer(config, in_channels, in_channels, kernel_size, stride, groups=in_channels)
        self.pointwise = AgeGenderConvLayer(config, in_channels, out_channels, kernel_size=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(hidden_states))


class AgeGenderResidualBlock(GradientCheckpointingLayer):
    """
    Two convolution layers and a shortcut without weights (option A of ResNet, https://huggingface.co/papers/1512.03385):
    average-pooled at a stride and filled up with zero channels if the width grows.
    """

    def __init__(self, config, in_channels: int, out_channels: int, kernel_size: int, stride: int):
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - in_channels
        self.first = AgeGenderConvLayer(config, in_channels, out_channels, kernel_size, stride)
        self.second = AgeGenderConvLayer(config, out_channels, out_channels, kernel_size, use_activation=False)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        shortcut = hidden_states
        if self.stride > 1:
            shortcut = F.avg_pool2d(shortcut, self.stride, ceil_mode=True)
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        return self.activation(self.second(self.first(hidden_states)) + shortcut)


BLOCKS = {
    "conv": AgeGenderConvBlock,
    "depthwise_separable": AgeGenderSeparableBlock,
    "residual": AgeGenderResidualBlock,
}


class AgeGenderStage(nn.Module):
    """Blocks of the same width, the first one with the stage's stride, then max-pooling."""

    def __init__(self, config: AgeGenderConfig, index: int):
        super().__init__()
        in_channels, out_channels = (config.num_channels, *config.hidden_sizes)[index : index + 2]
        block_class, kernel_size = BLOCKS[config.block_types[index]], config.kernel_sizes[index]
        self.blocks = nn.ModuleList()
        for block in range(config.depths[index]):
            widths, stride = (out_channels, out_channels), 1
            if block == 0:
                widths, stride = (in_channels, out_channels), config.strides[index]
            self.blocks.append(block_class(config, *widths, kernel_size, stride))
        self.pooler = nn.MaxPool2d(config.pool_sizes[index]) if config.pool_sizes[index] > 1 else nn.Identity()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return self.pooler(hidden_states)


class AgeGenderEncoder(nn.Module):
    """All stages: (batch, num_channels, height, width) to the features, (batch, config.num_features)."""

    def __init__(self, config: AgeGenderConfig):
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(AgeGenderStage(config, index) for index in range(len(config.hidden_sizes)))

    def compute_maps(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Returns the output of each stage, `(batch, hidden_sizes[i], height, width)`."""
        # As the weights, whose dtype a float32 image processor does not know. DataParallel's copies have no parameters.
        dtype = next(self.parameters(), pixel_values).dtype
        maps = [pixel_values.to(dtype, memory_format=torch.channels_last)]  # a tenth faster on CPUs
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        mirrors = self.config.mirror_averaging and not self.training
        if mirrors:
            pixel_values = torch.cat((pixel_values, pixel_values.flip(-1)))
        maps = self.compute_maps(pixel_values)[-self.config.pooled_stages :]
        features = torch.cat([values.mean(dim=(2, 3)) for values in maps], dim=-1)
        return features.unflatten(0, (2, -1)).mean(dim=0) if mirrors else features


class AgeGenderHead(nn.Module):
    """Fully connected layers with dropout before each and ReLU between: (batch, in_features) to (batch, num_outputs)."""

    def __init__(self, in_features: int, sizes: Sequence[int], num_outputs: int, dropout: float):
        super().__init__()
        widths = [in_features, *sizes, num_outputs]
        self.layers = nn.ModuleList(nn.Linear(width, widths[i + 1]) for i, width in enumerate(widths[:-1]))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            features = F.relu(layer(self.dropout(features)))
        return self.layers[-1](self.dropout(features))


class AgeGenderPreTrainedModel(PreTrainedModel):
    """Handles weight initialization and a simple interface for loading and saving models."""

    config: AgeGenderConfig
    base_model_prefix = "agegender"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _keep_in_fp32_modules_strict = ["normalization"]
    _no_split_modules = [block_class.__name__ for block_class in BLOCKS.values()]

    @classmethod
    def from_pretrained(cls, *args, key_mapping: dict[str, str] | None = None, **kwargs):
        """Loads saved weights as the base class, and those of models that could hold two encoders only."""
        key_mapping = {r"^second_encoder\.": "more_encoders.0."} | (key_mapping or {})
        return super().from_pretrained(*args, key_mapping=key_mapping, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Initializes convolutions by Kaiming (fan-in: depthwise ones have one input channel), others as the base class."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


class AgeGenderModel(AgeGenderPreTrainedModel):
    """Convolutional encoders side by side with an age head (a distribution over whole years) and a gender head."""

    def __init__(self, config: AgeGenderConfig):
        super().__init__(config)
        self.encoder = AgeGenderEncoder(config)
        others = config.make_encoder_configs()
        self.more_encoders = nn.ModuleList(AgeGenderEncoder(other) for other in others)
        self.scales = [other.image_size / config.image_size for other in others]
        self.num_features = num_features = sum(each.num_features for each in (config, *others))
        self.feature_normalization = nn.Identity()
        if config.normalize_features:
            self.feature_normalization = AgeGenderBatchNorm(num_features, config.batch_norm_eps, affine=False)
        self.age_head = AgeGenderHead(
            num_features, config.age_head_sizes, config.num_age_classes, config.age_head_dropout
        )
        self.gender_head = AgeGenderHead(
            num_features, config.gender_head_sizes, config.num_labels, config.gender_head_dropout
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        age_labels: torch.FloatTensor | None = None,
        gender_labels: torch.LongTensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> AgeGenderOutput | tuple:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`):
                Normalized images from [`AgeGenderImageProcessor`], of any floating-point type. Features from `encode`, of shape
                `(batch_size, num_features)`, are taken too.
            age_labels (`torch.FloatTensor` of shape `(batch_size,)` or `(batch_size, 2)`, *optional*):
                Ages in years, or first and last age; NaN if unknown. Ages above `num_age_classes - 1` count as it.
            gender_labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*):
                Indices into `config.id2label`; -100 if unknown.
            output_hidden_states, output_attentions: Ignored, because the network returns neither.
            return_dict: If `False`, the output is a tuple without `None`. Defaults to `config.return_dict`.

        Raises:
            ValueError: if `pixel_values` is not a batch of images with `config.num_channels` channels.
        """
        features = self.encode(pixel_values)
        age_logits = self.age_head(features)
        gender_logits = self.gender_head(features) / self.config.gender_temperature
        loss = None
        if age_labels is not None or gender_labels is not None:
            loss = self.compute_loss(age_logits, gender_logits, age_labels, gender_labels)
        age, interval = compute_age(age_logits, self.config)
        return AgeGenderOutput(loss, age_logits, gender_logits, age, interval)

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Returns the features of all encoders, one after the other: `(batch_size, num_features)`."""
        is_tensor = isinstance(pixel_values, torch.Tensor)
        shape = tuple(pixel_values.shape) if is_tensor else ()
        if len(shape) == 2 and shape[1] == self.num_features:
            return pixel_values
        if len(shape) != 4 or shape[1] != self.config.num_channels or not pixel_values.is_floating_point():
            given = f"{pixel_values.dtype} and {shape}" if is_tensor else type(pixel_values).__name__
            raise ValueError(
                f"pixel_values must be floats of the shape (batch, {self.config.num_channels}, height, width), got {given}: "
                "write model(**image_processor(images))."
            )
        features = [self.encoder(pixel_values)]
        for encoder, scale in zip(self.more_encoders, self.scales):
            features.append(encoder(resize(pixel_values, scale)))
        return self.feature_normalization(torch.cat(features, dim=-1)[..., None, None]).flatten(start_dim=1)

    def compute_digest(self) -> str:
        """Returns the SHA-256 of weights and configuration: models that share it give the same answers."""
        fields = {*type(self.config).__annotations__, "id2label"}  # not those of transformers, such as its version
        values = {name: value for name, value in self.config.to_diff_dict().items() if name in fields}
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().float().numpy().tobytes())
        return digest.hexdigest()

    def compute_loss(
        self,
        age_logits: torch.Tensor,
        gender_logits: torch.Tensor,
        age_labels: torch.Tensor | None = None,
        gender_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the weighted loss of the given labels, which are as in `forward`: float32 scalar, 0 if none is known."""
        loss = age_logits.new_zeros((), dtype=torch.float32)
        if age_labels is not None:
            loss = loss + self.config.age_loss_weight * self._compute_age_loss(age_logits, age_labels)
        if gender_labels is not None:
            total = F.cross_entropy(gender_logits.float(), gender_labels, ignore_index=-100, reduction="sum")
            loss = loss + self.config.gender_loss_weight * (total / (gender_labels != -100).sum().clamp(min=1))
        return loss

    def _compute_age_loss(self, age_logits: torch.Tensor, age_labels: torch.Tensor) -> torch.Tensor:
        """Returns the mean over known labels: of an age soft cross-entropy and smooth L1, of a band −log(its probability)."""
        last_age, classes = age_logits.shape[-1] - 1, make_age_classes(age_logits)
        bands = (age_labels if age_labels.ndim == 2 else age_labels[:, None]).float()
        known, is_band = torch.isfinite(bands).all(dim=-1), bands[:, 0] != bands[:, -1]
        bands = torch.where(known[:, None], bands, 0).clamp(0, last_age)
        labels, log_probabilities = bands[:, 0], age_logits.float().log_softmax(dim=-1)
        target = F.one_hot(labels.round().long(), age_logits.shape[-1]).float()
        if self.config.age_label_sigma > 0:  # narrower at the ends, where a cut Gaussian would move the mean
            sigma = ((torch.minimum(labels, last_age - labels) + 0.5) / 2).clamp(max=self.config.age_label_sigma)
            target = (-0.5 * ((classes - labels[:, None]) / sigma[:, None]) ** 2).softmax(dim=-1)
        distance_loss = F.smooth_l1_loss(compute_mean_age(age_logits), labels, reduction="none")
        losses = -(target * log_probabilities).sum(dim=-1) + self.config.age_expectation_loss_weight * distance_loss
        outside = (classes < bands[:, :1].round()) | (classes > bands[:, -1:].round())
        band_losses = -log_probabilities.masked_fill(outside, -torch.inf).logsumexp(dim=-1)
        return torch.where(known, torch.where(is_band, band_losses, losses), 0).sum() / known.sum().clamp(min=1)


AgeGenderModel.register_for_auto_class("AutoModel")

__all__ = ["AgeGenderModel", "AgeGenderOutput", "AgeGenderPipeline", "AgeGenderPreTrainedModel"]
