"""What a distribution over whole years says: its mean and median, and the interval that is to hold the labelled age."""

from collections.abc import Sequence

import torch


def make_age_classes(age_logits: torch.Tensor) -> torch.Tensor:
    """The years that the classes stand for, float32, (num_age_classes,)."""
    return torch.arange(age_logits.shape[-1], device=age_logits.device, dtype=torch.float32)


def find_mean_age(age_logits: torch.Tensor) -> torch.Tensor:
    """Mean of the distribution, years, float32, (batch,)."""
    # A product and a sum, not a matmul: autocast would round the years of a matmul to bfloat16.
    return (age_logits.float().softmax(dim=-1) * make_age_classes(age_logits)).sum(dim=-1)


def find_median_age(age_logits: torch.Tensor) -> torch.Tensor:
    """Median of the distribution: the first age up to which lies half of it, whole years, float32, (batch,)."""
    cumulative = age_logits.float().softmax(dim=-1).cumsum(dim=-1)
    age = (cumulative < 0.5).sum(dim=-1).float()
    return torch.where(cumulative[..., -1].isnan(), torch.nan, age)


def find_interpolated_median_age(age_logits: torch.Tensor) -> torch.Tensor:
    """Median of the distribution if each age's probability is spread evenly over its year, years, float32, (batch,)."""
    # From half a year before the age to half a year after.
    probabilities = age_logits.float().softmax(dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    index = (cumulative < 0.5).sum(dim=-1, keepdim=True)
    beyond = (cumulative.gather(-1, index) - 0.5) / probabilities.gather(-1, index)
    return (index + 0.5 - beyond).squeeze(-1).clamp(0, age_logits.shape[-1] - 1)


# What `AgeGenderConfig.age_statistic` may be.
AGE_STATISTICS = {
    "median": find_median_age,
    "interpolated_median": find_interpolated_median_age,
    "mean": find_mean_age,
}


def find_centrality(age_logits: torch.Tensor) -> torch.Tensor:
    """
    How far out each age lies: the probability of the central part of the distribution that just reaches it.

    Args:
        age_logits: Scores of the ages, (batch, num_age_classes).

    Returns:
        0 (the median) to 1, float32, (batch, num_age_classes).
    """
    probabilities = age_logits.float().softmax(dim=-1)
    return (2 * (probabilities.cumsum(dim=-1) - probabilities / 2) - 1).abs()


def find_age_interval(
    age_logits: torch.Tensor, age: torch.Tensor, ages: Sequence[float], levels: Sequence[float]
) -> torch.Tensor:
    """
    The ages whose place in the distribution is central enough, `age` among them.

    Distributional conformal prediction (https://doi.org/10.1073/pnas.2107794118), with a level for each age, so that not
    only all faces together but those of each age are in their interval nine times of ten.

    Args:
        age_logits: Scores of the ages, (batch, num_age_classes).
        age: What the model says, years, (batch,).
        ages: Years, increasing, that have a level; between them levels are linear, outside constant.
        levels: Largest centrality of the ages that belong to the interval, 0–1, as many as `ages`.

    Returns:
        The first and the last of those ages, years, float32, (batch, 2).
    """
    classes = make_age_classes(age_logits)
    largest = torch.full_like(classes, levels[0])
    for start, end, level, end_level in zip(ages, ages[1:], levels, levels[1:]):
        largest = largest + (end_level - level) / (end - start) * (classes - start).clamp(0, end - start)
    inside = find_centrality(age_logits) <= largest
    first = torch.where(inside, classes, torch.inf).amin(dim=-1)
    last = torch.where(inside, classes, -torch.inf).amax(dim=-1)
    return torch.stack((torch.minimum(first, age), torch.maximum(last, age)), dim=-1)
