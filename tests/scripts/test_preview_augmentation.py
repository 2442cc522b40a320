"""The sheet of augmentations."""

from PIL import Image

from data.augmentation import AugmentationArguments
from scripts.preview_augmentation import draw_preview


def test_preview_starts_with_the_photo_itself(tmp_path):
    photo = tmp_path / "photo.png"
    Image.radial_gradient("L").convert("RGB").save(photo)
    sheet = draw_preview(photo, AugmentationArguments(), rows=2, columns=3, side=64)
    assert sheet.size == (192, 128)
    with Image.open(photo) as image:
        expected = image.resize((64, 64))
    assert sheet.crop((0, 0, 64, 64)).tobytes() == expected.tobytes()
    assert sheet.crop((64, 0, 128, 64)).tobytes() != expected.tobytes()
