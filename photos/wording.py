"""Words for a face, shared by picture, card and table."""

# Below it a card says that it does not know; the probability is of the likelier gender, so never below one half.
SURE = 0.75


def name_gender(face: dict) -> str:
    """The likelier gender in one word; `unsure` where it is not likely enough."""
    return face["gender"] if face["gender_score"] >= SURE else "unsure"


def describe_gender(face: dict) -> str:
    """The likelier gender and its probability: `female, 98%` or `unsure (female, 55%)`."""
    said = f"{face['gender']}, {face['gender_score']:.0%}"
    return said if name_gender(face) == face["gender"] else f"unsure ({said})"
