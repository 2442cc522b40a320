"""Follows the people of a film and averages what its frames say about each."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import compute_age, select_age_at_least
from photos.tracking import FaceTracker


# What a face needs beside the usual: pass it to the pipeline as options.
OPTIONS = {"return_crops": True, "return_age_distribution": True}
LEAST_PROBABILITY = 1e-9  # of an age, whose logarithm is taken


def compute_weight(face: dict) -> float:
    """
    Returns how much a face tells about its person beside the other frames: its size in pixels times its sharpness.

    The sharpness is the standard deviation of the Laplacian of the aligned face, see Pertuz et al., "Analysis of focus measure
    operators", 2013.

    Args:
        face: A dict of the pipeline with `crop`.
    """
    grey, box = np.asarray(face["crop"].convert("L"), dtype=np.float32), face["box"]
    middle = 4 * grey[1:-1, 1:-1]
    laplacian = middle - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    size = ((box["xmax"] - box["xmin"]) * (box["ymax"] - box["ymin"])) ** 0.5
    return size * (float(laplacian.std()) + 1e-3)


class People:
    """
    The people of one film.

    A person is a track of `FaceTracker`. Its age and interval are those of the mean of the distributions of its frames, which
    `compute_weight` weights; so blurred and small faces count little.

    Args:
        config: Configuration of the model.
        age_thresholds: As for the pipeline.
    """

    def __init__(self, config: AgeGenderConfig, age_thresholds: Sequence[int] = ()):
        self.config, self.age_thresholds = config, age_thresholds
        self._tracker, self._people = FaceTracker(), {}

    def update(self, faces: list[dict], time: float) -> list[dict]:
        """
        Adds the next frame.

        Args:
            faces: The dicts of the pipeline with `age_distribution`, and with `weight`, from `compute_weight`.
            time: Seconds from the beginning.

        Returns:
            A copy of each dict with `track`, the number of the person, and with the averages of the tracker as `age`,
            `age_interval` (years), `gender` and `gender_score`. The box is that of the frame.
        """
        answers = [answer | {"box": face["box"]} for face, answer in zip(faces, self._tracker.update(faces, time))]
        first = self.config.id2label[0]
        for face, answer in zip(faces, answers):
            probability = face["gender_score"] if face["gender"] == first else 1 - face["gender_score"]
            numbers = np.array([1, *face["age_distribution"], probability])
            start = {"track": answer["track"], "time_from": time, "frames": 0, "sums": 0.0, "best": 0.0, "crop": None}
            person = self._people.setdefault(answer["track"], start)
            person["time_to"] = time
            person["frames"] += 1
            person["sums"] = person["sums"] + face["weight"] * numbers
            if face["weight"] > person["best"]:
                person["best"], person["crop"] = face["weight"], face.get("crop")
        return answers

    def describe(self) -> list[dict]:
        """
        Returns a dict for each person so far, in the order of their first frames.

        Each has `track`, `time_from` and `time_to` (seconds of the first and last frame), `frames` (their number), `age`,
        `age_interval` (years), `gender`, `gender_score`, `crop`, the aligned face of the frame that weighs most, if the faces
        had crops, and with age thresholds `age_at_least`, as in the pipeline.
        """
        return [self._describe(person) for person in self._people.values()]

    def _describe(self, person: dict) -> dict:
        _, *probabilities, first = (person["sums"] / person["sums"][0]).tolist()
        age_logits = torch.tensor([probabilities]).clamp(min=LEAST_PROBABILITY).log()
        age, interval = compute_age(age_logits, self.config)
        kept: dict[str, float | int | Image.Image | None] = {
            name: person[name] for name in ("track", "time_from", "time_to", "frames", "crop")
        }
        at_least = select_age_at_least(age_logits, self.age_thresholds, self.config)
        return kept | {
            "age": age.item(),
            "age_interval": interval[0].tolist(),
            "gender": self.config.id2label[0 if first >= 0.5 else 1],
            "gender_score": max(first, 1 - first),
            **({"age_at_least": at_least} if at_least else {}),
        }
