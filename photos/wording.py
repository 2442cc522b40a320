"""Words for faces and for counts of them, shared by picture, card, table and camera."""

from image_processing_agegender import is_gender_sure


RANGE = "90 % range"  # the name of `age_interval` on the page


def name_gender(face: dict) -> str:
    """Returns the likelier gender, or `unsure` if it is not sure."""
    return face["gender"] if is_gender_sure(face["age"], face["gender_score"]) else "unsure"


def describe_counts(pictures: int, faces: int, without_face: int, unreadable: int) -> str:
    """Returns what has become of pictures: `1 picture: 1 face` or `35 pictures: 31 faces, 2 without one, 3 unreadable`."""
    text = f"{pictures:,} picture{'s' * (pictures != 1)}: {faces:,} face{'s' * (faces != 1)}"
    text += f", {without_face:,} without one" * bool(without_face)
    return text + f", {unreadable:,} unreadable" * bool(unreadable)


def describe_probability(probability: float) -> str:
    """Returns a probability that is never certain: `97 %`, `over 99 %` or `under 1 %`."""
    percent = f"{100 * probability:.0f} %"
    return {"100 %": "over 99 %", "0 %": "under 1 %"}.get(percent, percent)


def describe_gender(face: dict) -> str:
    """Returns the likelier gender with its probability: `female, 98 %` or `unsure (female, 55 %)`."""
    gender = f"{face['gender']}, {describe_probability(face['gender_score'])}"
    return gender if is_gender_sure(face["age"], face["gender_score"]) else f"unsure ({gender})"


def describe_interval(low: float, high: float) -> str:
    """Returns an interval of ages in whole years: `24–43`."""
    return f"{low:.0f}–{high:.0f}"


def name_face(number: int, face: dict) -> str:
    """Returns `Face 1`, or `Whole picture` if no face was detected in it."""
    return "Whole picture" if face["detection_score"] is None else f"Face {number}"


def make_label(number: int, face: dict) -> str:
    """Returns the label of a face in a picture: `1: female, 31`."""
    start = "whole picture" if face["detection_score"] is None else number
    return f"{start}: {name_gender(face)}, {face['age']:.0f}"
