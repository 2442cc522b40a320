"""The answers of the page are those of the pipeline."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from hub.loading import load_pipeline
from photos.wording import describe_gender
from pipeline_agegender import AgeGenderPipeline
from tests.support.browser import ASTRONAUT
from tests.support.web_page import build_page, encode, estimate, open_ready, serve


pytestmark = pytest.mark.browser

PORTRAITS = ASTRONAUT.parent / "portraits"
REAL_FACES = 40
MIN_SAME_FACES, MIN_SAME_AGES, MAX_YEARS = 0.98, 0.97, 2  # shares of photos, of faces, and years
TOSS_UP = 0.51  # of two genders that are as probable, browser and pipeline may name another one


def make_photos(photo: Image.Image) -> dict[str, bytes]:
    """Returns photos as people have them, all with the same face."""
    wide = Image.new("RGB", (1500, 512), "olive")
    wide.paste(photo, (40, 0))
    wide.paste(photo.resize((300, 300)), (700, 100))
    wide.paste(photo.resize((120, 120)).rotate(25), (1200, 300))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(photo.size).point(lambda value: 255 * (value > 60)))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    return {
        "png": encode(photo),
        "jpeg": encode(photo, "JPEG", quality=90),
        "bad jpeg": encode(photo, "JPEG", quality=25),
        "webp": encode(photo, "WEBP", quality=80),
        "grey": encode(photo.convert("L"), "JPEG"),
        "palette": encode(photo.quantize(64)),
        "small": encode(photo.resize((120, 120))),
        "large": encode(photo.resize((2900, 2900)), "JPEG"),
        "face that fills it": encode(photo.crop((170, 70, 280, 180)).resize((900, 900)), "JPEG"),
        "three faces": encode(wide),
        "on its side": encode(photo.rotate(90)),
        "upside down": encode(photo.rotate(180)),
        "EXIF": encode(photo.rotate(90), "JPEG", exif=exif.tobytes()),
        "transparent": encode(clear),
        "another profile": encode(photo, "JPEG", icc_profile=profile),
        "nobody": encode(Image.effect_noise((300, 200), 60).convert("RGB")),
        "tiny": encode(photo.resize((10, 10))),
    }


def compare(page, pipe: AgeGenderPipeline, photos: dict[str, bytes]):
    """Compares the answers to photos, and checks that they are the same but for the shares that the page promises."""
    other_faces, years = [], []
    for name, content in photos.items():
        expected, faces = pipe(content), estimate(page, content)
        if len(faces) != len(expected):
            other_faces.append(name)
            continue
        for face, wanted in zip(faces, expected, strict=True):
            years.append(abs(face["age"] - wanted["age"]))
            assert face["gender"] == wanted["gender"] or wanted["gender_score"] < TOSS_UP, name
            assert face["gender_score"] == pytest.approx(wanted["gender_score"], abs=0.02), name
            assert face["age_interval"] == pytest.approx(wanted["age_interval"], abs=MAX_YEARS), name
            assert face["detection_score"] == pytest.approx(wanted["detection_score"], abs=0.01), name
            size = max(wanted["box"]["xmax"] - wanted["box"]["xmin"], 100)
            assert face["box"] == pytest.approx(wanted["box"], abs=0.02 * size), name
            assert list(face) == list(wanted)
    assert len(other_faces) <= (1 - MIN_SAME_FACES) * len(photos), other_faces
    assert len(years) > 0.9 * (len(photos) - 2)
    others = [difference for difference in years if difference > 0.5]
    assert len(others) <= max(1, (1 - MIN_SAME_AGES) * len(years)) and max(years) <= MAX_YEARS, years


def test_a_gender_is_sure_where_it_is_in_python(ready_page):
    faces = [
        {"age": age, "gender": "male", "gender_score": score} for age in (6.9, 7) for score in (0.74, 0.75, 0.89, 0.9)
    ]
    words = "async (faces) => faces.map((await import('./wording.js')).describeGender)"
    assert ready_page.evaluate(words, faces) == [describe_gender(face) for face in faces]


@pytest.mark.slow
def test_photos_get_the_answers_of_the_pipeline(ready_page, estimator, photo):
    compare(ready_page, estimator, make_photos(photo))


def test_options_are_those_of_the_pipeline(ready_page, estimator, photo):
    content = encode(photo)
    (wanted,) = estimator(content, detect_faces=False, return_age_distribution=True)
    (face,) = estimate(ready_page, content, detect_faces=False, return_age_distribution=True)
    assert face["detection_score"] is None and face["box"] == wanted["box"]
    np.testing.assert_allclose(face["age_distribution"], wanted["age_distribution"], atol=1e-3)
    (wanted,) = estimator(content, detect_faces=False, age_thresholds=range(101))
    (face,) = estimate(ready_page, content, detect_faces=False, age_thresholds=list(range(101)))
    assert {int(age): share for age, share in face["age_at_least"].items()} == pytest.approx(
        wanted["age_at_least"], abs=1e-3
    )
    assert list(face) == list(wanted) and "age_at_least" not in estimate(ready_page, content, age_thresholds=[])[0]
    wide = Image.new("RGB", (800, 512))
    wide.paste(photo.resize((256, 256)))
    wide.paste(photo, (288, 0))
    (face,) = estimate(ready_page, encode(wide), max_faces=1, return_crops=True)
    assert face["box"]["xmin"] > 288
    (wanted,) = estimator(wide, max_faces=1, return_crops=True)
    crop = np.array(face["crop"]["data"], np.uint8).reshape(200, 200, 4)[:, :, :3]
    np.testing.assert_allclose(crop.astype(int), np.asarray(wanted["crop"]).astype(int), atol=2)
    assert estimate(ready_page, content, threshold=0.999) == []


@pytest.mark.parametrize("value", [18, "18", [18.5], ["18"], [True], [-1], [101]])
def test_other_age_thresholds_are_refused_with_the_sentence_of_the_pipeline(ready_page, photo, value):
    with pytest.raises(Exception, match="age_thresholds must be a list of whole numbers from 0 to 100, got "):
        estimate(ready_page, encode(photo), age_thresholds=value)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, browser):
    """The page with the shipped weights, and its pipeline."""
    pipe = load_pipeline(str(ASTRONAUT.parents[1]))
    with serve(build_page(pipe, tmp_path_factory.mktemp("shipped"))) as site:
        page = open_ready(browser, site.url)
        yield page, pipe
        page.close()


@pytest.mark.slow
def test_portraits_get_the_answers_of_the_shipped_model(shipped):
    paths = [ASTRONAUT, *sorted(PORTRAITS.glob("*.jpg"))]
    compare(*shipped, {path.name: path.read_bytes() for path in paths})


@pytest.mark.slow
def test_real_faces_get_the_answers_of_the_shipped_model(shipped, utkface_dir):
    compare(*shipped, read_faces(Path(utkface_dir), REAL_FACES))


def read_faces(source: Path, count: int) -> dict[str, bytes]:
    """Reads the first faces of UTKFace: a folder or the archive."""
    if source.is_dir():
        return {path.name: path.read_bytes() for path in sorted(source.rglob("*.jpg"))[:count]}
    faces = {}
    with tarfile.open(source) as archive:
        for member in archive:
            if member.name.endswith(".jpg"):
                faces[member.name] = archive.extractfile(member).read()
            if len(faces) == count:
                break
    return faces
