"""Tracks faces over the frames of a camera or of a film."""

import numpy as np


SIDES = ("xmin", "ymin", "xmax", "ymax")
MIN_OVERLAP = 0.2  # intersection over union of two boxes, from which on they are the same face
FORGET_SECONDS = 2  # without the face: another person may be there by then
# Weights of the newest frame in the averages. The first frames of a face have equal weights, which settles it at once.
NUMBER_SHARE, BOX_SHARE, SPEED_SHARE = 0.12, 0.6, 0.4


class FaceTracker:
    """
    Tracks faces over the frames of one camera or film and averages their numbers. It stores no pictures.

    Boxes are extrapolated from their last speed and matched to the new boxes by overlap. Averages are exponential; the
    gender follows from the average of its probability.
    """

    def __init__(self):
        self._tracks: list[dict] = []
        self._next_number = 1

    def update(self, faces: list[dict], now: float) -> list[dict]:
        """
        Adds the next frame.

        Args:
            faces: The dicts of the pipeline for a frame. They are not changed.
            now: Time of the frame in seconds, from any beginning.

        Returns:
            A copy of each dict with averaged `age`, `age_interval` (years), `gender`, `gender_score` and `box` (pixels),
            and with `track`, the number of the face.
        """
        self._tracks = [track for track in self._tracks if now - track["seen_at"] <= FORGET_SECONDS]
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
            track["seen_at"] = now
            answers.append(add_to_track(track, face, box))
        return answers

    def _match(self, boxes: list[np.ndarray]) -> dict[int, dict]:
        """Returns the track of each box that has one, by the index of the box; large overlaps come first."""
        overlaps = np.array([[compute_overlap(box, track["seen_box"]) for track in self._tracks] for box in boxes])
        matches, taken = {}, set()
        for row, column in (np.unravel_index(index, overlaps.shape) for index in np.argsort(-overlaps, axis=None)):
            least = MIN_OVERLAP / self._tracks[column]["absent"]  # what is expected of a hidden face gets less sure
            if overlaps[row, column] >= least and row not in matches and column not in taken:
                matches[row] = self._tracks[column]
                taken.add(column)
        return matches

    def _begin(self, face: dict, box: np.ndarray) -> dict:
        """Starts the track of a face."""
        track = {
            "number": self._next_number,
            "frames": 0,
            "absent": 0,  # frames since it was seen
            "seen_box": box,
            "speed": np.zeros(4),  # pixels a frame
            "box": box,
            "years": np.zeros(3),  # the age and the ends of its interval
            # `probability` is the average for the gender of the first frame.
            "gender": face["gender"],
            "other_gender": None,
            "probability": 0.0,
        }
        self._next_number += 1
        self._tracks.append(track)
        return track


def add_to_track(track: dict, face: dict, box: np.ndarray) -> dict:
    """Adds a face of the newest frame to the averages of its track; returns the face with these averages."""
    track["frames"] += 1
    share = max(NUMBER_SHARE, 1 / track["frames"])
    years = np.array([face["age"], *face["age_interval"]])
    track["years"] = track["years"] + share * (years - track["years"])
    probability = face["gender_score"]
    if face["gender"] != track["gender"]:
        track["other_gender"] = face["gender"]
        probability = 1 - probability
    track["probability"] += share * (probability - track["probability"])
    # `seen_box` is the expected box here; its error has added up over the frames in which the face was absent. Only its middle
    # moves on: the box of a face that gets covered shrinks.
    miss = np.tile((box - track["seen_box"]).reshape(2, 2).mean(axis=0), 2)
    track["speed"] = track["speed"] + SPEED_SHARE * miss / max(1, track["absent"])
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


def compute_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the intersection over union of two boxes, 0 to 1."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    common = np.maximum(sides, 0).prod()
    union = (first[2:] - first[:2]).prod() + (second[2:] - second[:2]).prod() - common
    return float(common / union) if union > 0 else 0.0
