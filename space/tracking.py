"""Follows faces over the frames of a camera."""

import time

import numpy as np


SIDES = ("xmin", "ymin", "xmax", "ymax")
# Share of the union of two boxes that is common to them, at least, for them to be the same face.
MIN_OVERLAP = 0.2
FORGET_FRAMES = 10
FORGET_SECONDS = 3  # between two frames: another person may sit there then
# What the newest frame counts for in an average. The first frames of a face count alike, so that it settles at once.
NUMBER_SHARE, BOX_SHARE, SPEED_SHARE = 0.12, 0.6, 0.4


class FaceTracker:
    """
    Follows faces over the frames of one camera and averages what is said about them; keeps numbers alone.

    A face is the one of the frame before whose box, moved on as fast as it moved, it overlaps most. Averages are
    exponential; that of the gender is one of its probability.
    """

    def __init__(self):
        self._tracks: list[dict] = []
        self._next_number = 1
        self._last_update = -np.inf

    def update(self, faces: list[dict]) -> list[dict]:
        """
        Takes in the next frame.

        Args:
            faces: The faces of a frame as the pipeline gives them. They stay as they are.

        Returns:
            A dict for each, in the same order: averaged `age`, `age_interval` (years), `gender`, `gender_score` and `box`
            (pixels), and `track`, the number of the face for as long as it is followed. What else there is stays.
        """
        now = time.monotonic()
        if now - self._last_update > FORGET_SECONDS:
            self._tracks = []
        self._last_update = now
        for track in self._tracks:
            track["absent"] += 1
            track["seen_box"] = track["seen_box"] + track["speed"]
        boxes = [np.array([face["box"][side] for side in SIDES], dtype=float) for face in faces]
        matches = self._match(boxes)
        answers = []
        for index, (face, box) in enumerate(zip(faces, boxes, strict=True)):
            track = matches.get(index)
            if track is None:
                track = self._begin(face, box)
            answers.append(take_in(track, face, box))
        self._tracks = [track for track in self._tracks if track["absent"] <= FORGET_FRAMES]
        return answers

    def _match(self, boxes: list[np.ndarray]) -> dict[int, dict]:
        """The track of each box that has one, by the index of the box."""
        from scipy.optimize import linear_sum_assignment  # only here: it would cost every start a third of a second

        overlaps = np.array([[overlap(box, track["seen_box"]) for track in self._tracks] for box in boxes])
        if overlaps.size == 0:
            return {}
        pairs = zip(*linear_sum_assignment(overlaps, maximize=True), strict=True)
        return {int(row): self._tracks[column] for row, column in pairs if overlaps[row, column] >= MIN_OVERLAP}

    def _begin(self, face: dict, box: np.ndarray) -> dict:
        """Begins to follow a face."""
        track = {
            "number": self._next_number,
            "frames": 0,
            "absent": 0,
            "seen_box": box,
            "speed": np.zeros(4),  # pixels a frame
            "box": box,
            "years": np.zeros(3),  # the age and the ends of its interval
            # The averaged probability is that of the gender that the first frame named.
            "gender": face["gender"],
            "other_gender": None,
            "probability": 0.0,
        }
        self._next_number += 1
        self._tracks.append(track)
        return track


def take_in(track: dict, face: dict, box: np.ndarray) -> dict:
    """Takes what a frame says about a face into its averages; returns the face with these."""
    track["frames"] += 1
    share = max(NUMBER_SHARE, 1 / track["frames"])
    years = np.array([face["age"], *face["age_interval"]])
    track["years"] = track["years"] + share * (years - track["years"])
    probability = face["gender_score"]
    if face["gender"] != track["gender"]:
        track["other_gender"] = face["gender"]
        probability = 1 - probability
    track["probability"] += share * (probability - track["probability"])
    # `seen_box` is where the face was expected; over the frames in which it was away the error has added up.
    track["speed"] = track["speed"] + SPEED_SHARE * (box - track["seen_box"]) / max(1, track["absent"])
    track["box"] = track["box"] + BOX_SHARE * (box - track["box"])
    track["seen_box"], track["absent"] = box, 0
    is_first = track["probability"] >= 0.5 or track["other_gender"] is None
    age, *interval = track["years"].tolist()
    return face | {
        "track": track["number"],
        "age": age,
        "age_interval": interval,
        "gender": track["gender"] if is_first else track["other_gender"],
        "gender_score": track["probability"] if is_first else 1 - track["probability"],
        "box": {side: round(value) for side, value in zip(SIDES, track["box"].tolist(), strict=True)},
    }


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """What two boxes have in common as a share of their union, 0 to 1."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    common = np.maximum(sides, 0).prod()
    union = (first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - common
    return float(common / union) if union > 0 else 0.0
