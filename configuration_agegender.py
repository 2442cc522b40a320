"""AgeGender model configuration."""

import copy
import functools
from pathlib import Path
from typing import Any, ClassVar

from transformers.utils.versions import require_version


MINIMUM_TRANSFORMERS = "5.10.1"  # earlier ones miss files that an imported file of a local folder imports
require_version(
    f"transformers>={MINIMUM_TRANSFORMERS}",
    f"AgeGender models need it: pip install --upgrade 'transformers>={MINIMUM_TRANSFORMERS}'",
)

from transformers import PreTrainedConfig


# In `try`: transformers requires the packages of all other imports to be installed before it loads remote code.
try:
    from huggingface_hub.dataclasses import strict
    from huggingface_hub.errors import StrictDataclassError
except ImportError as error:
    raise ImportError(
        "AgeGender models need a newer huggingface_hub: pip install --upgrade huggingface_hub"
    ) from error


TASK = "age-gender-estimation"
CUSTOM_PIPELINES = {TASK: {"impl": "pipeline_agegender.AgeGenderPipeline", "pt": ["AutoModel"]}}

# A rule, its check of a number, and the fields it applies to. For a list, each number is checked.
RANGES = (
    ("at least 1", lambda number: number >= 1, ("num_channels", "image_size", "age_head_sizes", "gender_head_sizes")),
    ("at least 1", lambda number: number >= 1, ("hidden_sizes", "depths", "strides", "kernel_sizes", "pool_sizes")),
    ("at least 1", lambda number: number >= 1, ("pooled_stages",)),
    ("at least 2, for ages 0 and 1", lambda number: number >= 2, ("num_age_classes",)),
    ("in [0, 1]", lambda number: 0 <= number <= 1, ("age_interval_levels",)),
    ("in [0, 1)", lambda number: 0 <= number < 1, ("age_head_dropout", "gender_head_dropout")),
    ("in (0, 1]", lambda number: 0 < number <= 1, ("batch_norm_momentum",)),
    ("above 0", lambda number: number > 0, ("batch_norm_eps", "gender_temperature", "age_at_least_scale")),
    ("at least 0", lambda number: number >= 0, ("age_label_sigma", "age_interval_exponents")),
    (
        "at least 0",
        lambda number: number >= 0,
        ("age_loss_weight", "age_expectation_loss_weight", "gender_loss_weight"),
    ),
)


def raise_value_errors(config_class: type) -> type:
    """Makes a strict class raise ValueError, as the rest of transformers does; huggingface_hub's own error is none."""
    strict_init = config_class.__init__

    @functools.wraps(strict_init)
    def init(self, *args, **kwargs):
        try:
            strict_init(self, *args, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(str(error.__cause__ or error)) from error

    config_class.__init__ = init
    return config_class


@raise_value_errors
@strict
class AgeGenderConfig(PreTrainedConfig):
    r"""
    Configuration of an [`AgeGenderModel`]. The defaults are those of `configs/mobilenet.json`: the depthwise-separable blocks
    of MobileNet-v1 (https://huggingface.co/papers/1704.04861) and one fully connected layer per head.

    Stage `i` consists of `depths[i]` blocks of type `block_types[i]` with `hidden_sizes[i]` output channels. Its first block
    has stride `strides[i]`, and max-pooling over `pool_sizes[i]` pixels follows its last block.

    Args:
        num_channels (`int`, *optional*, defaults to 3):
            Number of channels of the input image.
        image_size (`int`, *optional*, defaults to 128):
            Height and width in pixels of the images that the network is trained on. Other sizes work too.
        block_types (`list[str]`, *optional*):
            Type of the blocks of each stage: `"conv"` (one convolution), `"depthwise_separable"` (a depthwise and a 1x1
            convolution) or `"residual"` (two convolutions and a shortcut; the width must not shrink).
        hidden_sizes (`list[int]`, *optional*):
            Number of output channels of each stage.
        depths (`list[int]`, *optional*):
            Number of blocks of each stage.
        strides (`list[int]`, *optional*):
            Stride of the first block of each stage.
        kernel_sizes (`list[int]`, *optional*):
            Kernel size of the convolutions of each stage, odd. Defaults to 3 for each stage.
        pool_sizes (`list[int]`, *optional*):
            Window and stride of the max-pooling at the end of each stage; 1 is no pooling.
        hidden_act (`str`, *optional*, defaults to `"relu6"`):
            Activation after each normalization. Between the fully connected layers it is ReLU.
        use_batch_norm (`bool`, *optional*, defaults to `True`):
            Whether to use batch normalization after each convolution. If `False`, the convolutions have a bias.
        batch_norm_eps (`float`, *optional*, defaults to 1e-3):
            Epsilon of the batch normalization.
        batch_norm_momentum (`float`, *optional*, defaults to 0.1):
            Weight of the current batch in the running statistics.
        pooled_stages (`int`, *optional*, defaults to 1):
            Number of the last stages whose outputs, averaged over the pixels, are the features of the encoder.
        more_encoders (`list[dict]`, *optional*, defaults to `[]`):
            Values of `encoder_fields` for each further encoder, whose features are concatenated to those of the first. It
            receives the image once, resized by the ratio of the two `image_size`: this sets how large it sees the face.
        normalize_features (`bool`, *optional*, defaults to `False`):
            Whether to normalize the features to a mean of 0 and a variance of 1 over the training images before the heads.
        num_age_classes (`int`, *optional*, defaults to 101):
            Number of age classes. Class `i` is the age of `i` years; older labels count as the last class.
        age_head_sizes (`list[int]`, *optional*, defaults to `[]`):
            Widths of the hidden layers of the age head.
        age_head_dropout (`float`, *optional*, defaults to 0.2):
            Dropout probability before each fully connected layer of the age head.
        gender_head_sizes (`list[int]`, *optional*, defaults to `[]`):
            Widths of the hidden layers of the gender head.
        gender_head_dropout (`float`, *optional*, defaults to 0.2):
            Dropout probability before each fully connected layer of the gender head.
        age_statistic (`str`, *optional*, defaults to `"median"`):
            Statistic of the age distribution returned as `AgeGenderOutput.age`: `"median"` (a whole year, as labels are,
            with a small absolute error), `"interpolated_median"` (with a fraction of a year) or `"mean"`.
        mirror_averaging (`bool`, *optional*, defaults to `True`):
            Whether to average the features of each image and its mirror image in eval mode. It doubles the time of the
            encoder. Each of `more_encoders` has a value of its own.
        age_interval_ages (`list[float]`, *optional*, defaults to `[0]`):
            Increasing ages in years at which `age_interval_levels` are given.
        age_interval_levels (`list[float]`, *optional*, defaults to `[0.9]`):
            `AgeGenderOutput.age_interval` contains an age if it lies in the central part of the age distribution with this
            probability. Levels are linear between the ages and constant outside. `evaluation.py --calibrate` fits them so
            that the interval contains 90 % of the labels.
        age_interval_entropies (`list[float]`, *optional*, defaults to `[0]`):
            Increasing entropies of the age distribution in nats at which `age_interval_exponents` are given.
        age_interval_exponents (`list[float]`, *optional*, defaults to `[1]`):
            The probability that a level leaves outside the interval is raised to this power, to cover blurred faces as well
            as sharp ones. Linear between the entropies, constant outside, and calibrated like the levels.
        gender_temperature (`float`, *optional*, defaults to 1.0):
            Divisor of the gender logits. `evaluation.py --calibrate` fits it so that probabilities match frequencies.
        age_at_least_scale (`float`, *optional*, defaults to 1.0):
            Factor of the log-odds of being at least an age, which the age distribution gives.
        age_at_least_shift (`float`, *optional*, defaults to 0.0):
            Summand of these log-odds. `evaluation.py --calibrate` fits both so that probabilities match frequencies.
        age_label_sigma (`float`, *optional*, defaults to 2.0):
            Standard deviation in years of the Gaussian that represents an age label (label distribution learning,
            https://huggingface.co/papers/1611.01731), smaller near the first and the last age. 0 is a plain class label.
        age_expectation_loss_weight (`float`, *optional*, defaults to 0.1):
            Weight of the smooth L1 loss of the mean age in years, added to the cross-entropy of the distribution.
        age_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the age loss.
        gender_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the gender loss.

    Raises:
        ValueError: if a field has the wrong type or a value out of range, or if the lists that describe the stages
            differ in length.

    Example:

    ```python
    >>> from configuration_agegender import AgeGenderConfig
    >>> from modeling_agegender import AgeGenderModel

    >>> model = AgeGenderModel(AgeGenderConfig())
    >>> model.config.id2label
    {0: 'male', 1: 'female'}
    ```
    """

    model_type = "agegender"
    allowed_block_types: ClassVar[tuple[str, ...]] = ("conv", "depthwise_separable", "residual")
    encoder_fields: ClassVar[tuple[str, ...]] = (
        "image_size",
        "block_types",
        "hidden_sizes",
        "depths",
        "strides",
        "kernel_sizes",
        "pool_sizes",
        "pooled_stages",
        "hidden_act",
        "use_batch_norm",
        "batch_norm_eps",
        "batch_norm_momentum",
        "mirror_averaging",
    )
    allowed_age_statistics: ClassVar[tuple[str, ...]] = ("median", "interpolated_median", "mean")
    allowed_activations: ClassVar[tuple[str, ...]] = ("relu", "relu6", "gelu", "silu", "hardswish")

    num_channels: int = 3
    image_size: int = 128
    block_types: list[str] | tuple[str, ...] = ("conv",) + ("depthwise_separable",) * 5
    hidden_sizes: list[int] | tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    depths: list[int] | tuple[int, ...] = (1, 1, 2, 2, 6, 2)
    strides: list[int] | tuple[int, ...] = (2, 1, 2, 2, 2, 2)
    kernel_sizes: list[int] | tuple[int, ...] | None = None
    pool_sizes: list[int] | tuple[int, ...] = (1, 1, 1, 1, 1, 1)
    hidden_act: str = "relu6"
    use_batch_norm: bool = True
    batch_norm_eps: float = 1e-3
    batch_norm_momentum: float = 0.1
    pooled_stages: int = 1
    more_encoders: list[dict[str, Any]] | tuple[dict[str, Any], ...] = ()
    normalize_features: bool = False
    num_age_classes: int = 101
    age_head_sizes: list[int] | tuple[int, ...] = ()
    age_head_dropout: float | int = 0.2
    gender_head_sizes: list[int] | tuple[int, ...] = ()
    gender_head_dropout: float | int = 0.2
    age_statistic: str = "median"
    mirror_averaging: bool = True
    age_interval_ages: list[float | int] | tuple[float | int, ...] = (0,)
    age_interval_levels: list[float | int] | tuple[float | int, ...] = (0.9,)
    age_interval_entropies: list[float | int] | tuple[float | int, ...] = (0,)
    age_interval_exponents: list[float | int] | tuple[float | int, ...] = (1,)
    gender_temperature: float | int = 1.0
    age_at_least_scale: float | int = 1.0
    age_at_least_shift: float | int = 0.0
    age_label_sigma: float | int = 2.0
    age_expectation_loss_weight: float | int = 0.1
    age_loss_weight: float | int = 1.0
    gender_loss_weight: float | int = 1.0

    def __post_init__(self, **kwargs):
        if self.kernel_sizes is None:
            self.kernel_sizes = (3,) * len(self.hidden_sizes)
        second_encoder = kwargs.pop("second_encoder", None)  # in configurations that could hold two encoders only
        if second_encoder is not None:
            self.more_encoders = (second_encoder | {"mirror_averaging": False},)
        if self.id2label is None:
            self.id2label = {0: "male", 1: "female"}
        if self.label2id is None:
            self.label2id = {label: int(index) for index, label in self.id2label.items()}
        kwargs.setdefault("custom_pipelines", copy.deepcopy(CUSTOM_PIPELINES))
        super().__post_init__(**kwargs)

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """
        Saves the configuration with what it names: the code of model and pipeline and, where there is none, the
        configuration of the image processor. Each way to save a model saves its configuration, so its folder works alone.
        """
        # Here, because these files import this one. transformers copies the files of relative imports along with this one.
        try:
            from .image_processing_agegender import AgeGenderImageProcessor
            from .modeling_agegender import AgeGenderModel  # noqa: F401 - `auto_map` may name it
        except ImportError:
            if __package__:
                raise
            from image_processing_agegender import AgeGenderImageProcessor
            from modeling_agegender import AgeGenderModel  # noqa: F401

        self.custom_pipelines = copy.deepcopy(CUSTOM_PIPELINES)
        # A configuration from the Hub names its repo, `user/repo--modeling_agegender.AgeGenderModel`.
        references = getattr(self, "auto_map", None) or {}
        self.auto_map = {auto_class: reference.split("--")[-1] for auto_class, reference in references.items()}
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        if not (Path(save_directory) / "preprocessor_config.json").exists():
            AgeGenderImageProcessor.of_model(self).save_pretrained(save_directory)

    def validate_stages(self):
        """Checks that the lists describe the same number of valid stages and that at least one pixel remains."""
        stage_fields = ("block_types", "hidden_sizes", "depths", "strides", "kernel_sizes", "pool_sizes")
        lengths = {name: len(getattr(self, name)) for name in stage_fields}
        if len(set(lengths.values())) != 1 or not self.block_types:
            raise ValueError(f"Each of {', '.join(stage_fields)} needs one entry per stage, got lengths {lengths}.")
        for block_type in self.block_types:
            if block_type not in self.allowed_block_types:
                raise ValueError(f"block_types may hold {self.allowed_block_types}, got {block_type!r}.")
        if self.pooled_stages > len(self.depths):
            raise ValueError(f"pooled_stages must be at most the number of stages, got {self.pooled_stages}.")
        if any(size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError(f"kernel_sizes must be odd, got {list(self.kernel_sizes)}.")
        widths = (self.num_channels, *self.hidden_sizes)
        for block_type, width, following in zip(self.block_types, widths, widths[1:]):
            if block_type == "residual" and following < width:
                raise ValueError(f"A residual stage may not shrink the width, got {following} channels after {width}.")
        side = self.image_size
        for stride, pool_size in zip(self.strides, self.pool_sizes):
            side = -(-side // stride) // pool_size
        if side < 1:
            raise ValueError(
                f"image_size={self.image_size} is too small for strides {list(self.strides)} and pool_sizes "
                f"{list(self.pool_sizes)}: enlarge image_size or remove a stage."
            )

    def validate_more_encoders(self):
        """Checks the fields of the further encoders."""
        for values in self.more_encoders:
            unknown = set(values) - set(self.encoder_fields)
            if unknown:
                raise ValueError(f"more_encoders may hold {', '.join(self.encoder_fields)}, got {sorted(unknown)}.")
        try:
            self.make_encoder_configs()
        except ValueError as error:
            raise ValueError(f"more_encoders is invalid: {error}") from error

    @property
    def num_features(self) -> int:
        """Number of the features of the first encoder."""
        return sum(self.hidden_sizes[-self.pooled_stages :])

    def make_encoder_configs(self) -> list["AgeGenderConfig"]:
        """Returns the configurations of the further encoders."""
        return [type(self)(num_channels=self.num_channels, **values) for values in self.more_encoders]

    def validate_choices(self):
        """Checks the fields with fixed values. The activations are those that the network is tested with."""
        choices = {"hidden_act": self.allowed_activations, "age_statistic": self.allowed_age_statistics}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}.")

    def validate_ranges(self):
        """Checks the range of each number."""
        for rule, is_valid, names in RANGES:
            for name in names:
                value = getattr(self, name)
                if not all(is_valid(number) for number in (value if isinstance(value, list | tuple) else [value])):
                    raise ValueError(f"{name} must be {rule}, got {value}.")

    def validate_calibration(self):
        """Checks that the points of the interval levels and exponents increase and have one value each."""
        for points_name, values_name in (
            ("age_interval_ages", "age_interval_levels"),
            ("age_interval_entropies", "age_interval_exponents"),
        ):
            points, values = getattr(self, points_name), getattr(self, values_name)
            if not points or len(points) != len(values):
                raise ValueError(
                    f"{points_name} and {values_name} need as many entries, got {len(points)} and {len(values)}."
                )
            if any(point >= following for point, following in zip(points, points[1:])):
                raise ValueError(f"{points_name} must increase, got {list(points)}.")

    def validate_id2label(self):
        """Checks that both genders have a name."""
        if self.id2label is not None and sorted(int(index) for index in self.id2label) != [0, 1]:
            raise ValueError(f"id2label must name the classes 0 and 1, got {self.id2label}.")


AgeGenderConfig.register_for_auto_class()

__all__ = ["AgeGenderConfig"]
