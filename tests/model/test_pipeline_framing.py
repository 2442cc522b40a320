"""Crops of another framing are reported when faces are not detected."""

import pytest

from pipeline_agegender import CHECKED_CROPS, AgeGenderPipeline


@pytest.fixture
def fresh(estimator) -> AgeGenderPipeline:
    """A pipeline that has not checked a crop yet."""
    return AgeGenderPipeline(model=estimator.model, image_processor=estimator.image_processor)


def count_warnings(caplog) -> int:
    return sum("is not cropped as UTKFace's faces are" in record.message for record in caplog.records)


def test_crops_of_the_pipeline_are_not_reported(fresh, photo, noise, caplog):
    (face,) = fresh(photo, return_crops=True)
    fresh([face["crop"], noise], detect_faces=False)
    assert count_warnings(caplog) == 0


@pytest.mark.parametrize(
    "recrop",
    [
        lambda photo: photo,
        lambda photo: photo.crop((140, 42, 308, 210)),
        lambda photo: photo.crop((188, 90, 256, 158)),
        lambda photo: photo.crop((146, 68, 258, 180)),
        lambda photo: photo.rotate(20, center=(222, 124)).crop((166, 68, 278, 180)),
        lambda photo: photo.crop((166, 20, 278, 228)),
    ],
    ids=["whole photo", "wider", "narrower", "to the side", "turned", "of another shape"],
)
def test_other_crops_are_reported_once(fresh, photo, caplog, recrop):
    fresh([recrop(photo)] * 2, detect_faces=False)
    assert count_warnings(caplog) == 1


def test_only_the_first_crops_are_checked(fresh, photo, noise, caplog):
    fresh([noise] * CHECKED_CROPS, detect_faces=False)
    fresh(photo, detect_faces=False)
    assert count_warnings(caplog) == 0
