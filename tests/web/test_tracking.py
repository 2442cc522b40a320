"""The page without a server follows faces as photos/tracking.py does."""

import numpy as np
import pytest

from photos.tracking import FORGET_SECONDS, FaceTracker
from tests.support.models import make_face


pytestmark = pytest.mark.browser

# `update` takes the time from the browser's clock.
FOLLOW = """async (frames) => {
  const {FaceTracker} = await import('./tracking.js'), tracker = new FaceTracker(), now = performance.now;
  try {
    return frames.map(([time, faces]) => {
      performance.now = () => 1000 * time;
      return tracker.update(faces);
    });
  } finally {
    performance.now = now;
  }
}"""


def make_frames() -> list[tuple[float, list[dict]]]:
    """Two people who cross, one of whom is hidden meanwhile, and one who leaves and comes back too late."""
    random, frames = np.random.default_rng(0), []
    for step in range(40):
        places = [(20 * step, 100), (780 - 20 * step, 110), (300, 400)]
        hidden = {1 if 17 <= step <= 21 else None, 2 if 10 <= step <= 22 else None}
        faces = []
        for number, (x, y) in enumerate(places):
            x, y = x + random.integers(-3, 4), y + random.integers(-3, 4)
            score, age = random.uniform(0.5, 1), 20.0 * (number + 1) + random.normal()
            face = make_face(int(x), int(y), int(x) + 80, int(y) + 90)
            face |= {"age": age, "age_interval": [age - 8, age + 9], "gender_score": score}
            face["gender"] = str(random.choice(["female", "male"]))
            if number not in hidden:
                faces.append(face)
        frames.append((step / 5, faces))
    return frames


def test_faces_are_followed_as_in_python(ready_page):
    frames, tracker = make_frames(), FaceTracker()
    expected = [tracker.update(faces, time) for time, faces in frames]
    assert 13 / 5 > FORGET_SECONDS  # the time for which the third is away
    assert {face["track"] for faces in expected for face in faces} == {1, 2, 3, 4}
    for answers, wanted in zip(ready_page.evaluate(FOLLOW, frames), expected, strict=True):
        for face, other in zip(answers, wanted, strict=True):
            assert (face["track"], face["gender"]) == (other["track"], other["gender"])
            for name, tolerance in (("age", 1e-6), ("age_interval", 1e-6), ("gender_score", 1e-6), ("box", 1)):
                assert face[name] == pytest.approx(other[name], abs=tolerance), name
