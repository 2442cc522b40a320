"""Inputs of the model from rows of a data set."""

import pickle

import torch
from PIL import Image

from data.transforms import Normalization, to_model_inputs
from image_processing_agegender import AgeGenderImageProcessor


def test_model_inputs_mark_missing_labels_and_are_normalized_once():
    processor = AgeGenderImageProcessor(size={"height": 32, "width": 32})
    rows = {"image": [Image.new("RGB", (50, 40), "white")] * 3, "gender": [1, None, 0]}
    rows |= {"age_low": [None, 7.0, 25.0], "age_high": [None, 7.0, 32.0]}
    inputs = to_model_inputs(processor, do_normalize=False)(rows)
    assert inputs["pixel_values"].shape == (3, 3, 32, 32) and inputs["pixel_values"].max() == 1
    assert inputs["age_labels"].nan_to_num(-1.0).tolist() == [[-1, -1], [7, 7], [25, 32]]
    assert inputs["gender_labels"].tolist() == [1, -100, 0]
    normalized = to_model_inputs(processor, do_normalize=True)(rows)["pixel_values"]
    assert torch.allclose(Normalization(processor)(inputs["pixel_values"]), normalized, atol=1e-6)


def test_workers_that_are_spawned_get_the_transform():
    """As on Windows and macOS, which fork no workers."""
    transform = to_model_inputs(AgeGenderImageProcessor(size={"height": 32, "width": 32}), do_normalize=True)
    rows = {"image": [Image.new("RGB", (50, 40), "white")], "age_low": [7.0], "age_high": [7.0], "gender": [1]}
    copy = pickle.loads(pickle.dumps(transform))
    assert torch.equal(copy(rows)["pixel_values"], transform(rows)["pixel_values"])
