"""Inputs of the model from rows of a data set."""

import torch

from data.transforms import Normalization, to_model_inputs
from image_processing_agegender import AgeGenderImageProcessor
from tests.support.faces import make_jpeg


def test_model_inputs_mark_missing_labels_and_are_normalized_once():
    processor = AgeGenderImageProcessor(size={"height": 32, "width": 32})
    rows = {"image": [{"bytes": make_jpeg(seed), "path": None} for seed in range(3)], "gender": [1, None, 0]}
    rows |= {"age_low": [None, 7.0, 25.0], "age_high": [None, 7.0, 32.0]}
    inputs = to_model_inputs(rows, processor, do_normalize=False)
    assert inputs["pixel_values"].shape == (3, 3, 32, 32) and 0.3 < inputs["pixel_values"].max() <= 1
    assert inputs["age_labels"].nan_to_num(-1.0).tolist() == [[-1, -1], [7, 7], [25, 32]]
    assert inputs["gender_labels"].tolist() == [1, -100, 0]
    normalized = to_model_inputs(rows, processor, do_normalize=True)["pixel_values"]
    assert torch.allclose(Normalization(processor)(inputs["pixel_values"]), normalized, atol=1e-6)
