"""Boxes and readable labels are drawn into a picture."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from photos.drawing import BOX_COLOUR, MAX_SHOWN_SIDE, draw_faces, draw_label
from tests.support.models import make_face


@pytest.mark.parametrize("box", [(40, 40, 90, 100), (0, 0, 60, 60), (140, 0, 199, 99), (0, 0, 199, 149)])
def test_draw_faces_draws_box_and_whole_label(box):
    picture = Image.new("RGB", (200, 150), "white")
    drawn = np.asarray(draw_faces(picture, [make_face(*box)]))
    assert np.asarray(picture).min() == 255
    blue = (drawn == BOX_COLOUR).all(axis=-1)
    middle = (box[1] + box[3]) // 2
    assert blue[middle, box[0]] and blue[middle, box[2]]
    # A label cut off at an edge would have fewer of its pixels than one in the middle.
    empty = Image.new("RGB", (200, 150), "white")
    free = Image.new("RGB", (400, 400), "white")
    text = "1: female, 31"
    for image, place in ((empty, box), (free, (100, 100, 150, 150))):
        draw_label(ImageDraw.Draw(image), image.size, place, text, 11)
    inside, whole = ((np.asarray(image) != 255).any(axis=-1).sum() for image in (empty, free))
    assert abs(inside - whole) <= 0.1 * whole


def test_draw_faces_scales_boxes_with_a_large_picture():
    drawn = draw_faces(Image.new("RGB", (8192, 2048), "white"), [make_face(4000, 400, 4400, 800)])
    assert drawn.size == (4096, 1024)
    assert drawn.getpixel((2001, 300)) == BOX_COLOUR


def test_draw_faces_scales_boxes_to_a_picture_of_a_part_of_its_size():
    picture = Image.new("RGB", (2048, 512), "white")
    picture.info["reduction"] = 4
    assert draw_faces(picture, [make_face(4000, 400, 4400, 800)]).getpixel((1001, 150)) == BOX_COLOUR


def test_draw_faces_takes_the_smallest_and_the_longest_picture():
    assert draw_faces(Image.new("RGB", (1, 1)), [make_face(0, 0, 1, 1)]).size == (1, 1)
    assert draw_faces(Image.new("RGB", (100_000, 2)), []).size == (MAX_SHOWN_SIDE, 1)


def test_crowded_faces_get_numbers_alone():
    """Whole labels of small faces would cover their neighbours."""
    faces = [make_face(40 * column, 100, 40 * column + 20, 125) for column in range(10)]
    drawn = np.asarray(draw_faces(Image.new("RGB", (400, 300), "white"), faces))
    covered = (drawn[:98] != 255).any(axis=-1).mean()  # above the boxes
    alone = np.asarray(draw_faces(Image.new("RGB", (400, 300), "white"), faces[:1]))
    assert 0 < covered < 5 * (alone[:98] != 255).any(axis=-1).mean()


def test_many_faces_get_numbers_alone_however_large():
    faces = [
        make_face(150 * (index % 5) + 20, 150 * (index // 5) + 40, 150 * (index % 5) + 140, 150 * (index // 5) + 140)
        for index in range(13)
    ]
    picture = Image.new("RGB", (800, 500), "white")
    twelve, thirteen = (np.asarray(draw_faces(picture, faces[:count])) for count in (12, 13))
    assert (thirteen[:40] != 255).any(axis=-1).sum() < (twelve[:40] != 255).any(axis=-1).sum() / 2
