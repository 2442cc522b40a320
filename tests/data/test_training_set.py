"""Extra faces: mixed in by share, never ones that measure, labels or not."""

import datasets
import numpy as np
import pytest
import torch

from data.sampling import MixingSampler
from modeling_agegender import AgeGenderModel
from tests.support.training import draw_face, read_results, write_table


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


def test_an_epoch_holds_all_images_and_a_share_of_extra_ones():
    sampler = MixingSampler(num_images=30, num_extra=100, share=0.25, seed=0)
    first = list(sampler)
    assert len(first) == len(sampler) == 40
    assert sorted(index for index in first if index < 30) == list(range(30))
    extra = [index for index in first if index >= 30]
    assert len(set(extra)) == 10 and max(extra) < 130
    assert first != sorted(first) and any(index >= 30 for index in first[:20])


def test_each_epoch_has_an_order_and_extra_images_of_its_own():
    sampler = MixingSampler(num_images=30, num_extra=100, share=0.25, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first and set(first) != set(second)


def test_no_more_extra_images_than_there_are():
    assert len(MixingSampler(num_images=30, num_extra=5, share=0.9, seed=0)) == 35


def test_extra_faces_without_gender_train_and_copies_of_measuring_images_do_not(run_train, faces, tmp_path, caplog):
    """All 40 images of the data set and 20 others; those of validation and test are left out."""
    files = sorted(faces.iterdir())
    ages = [float(file.name.split("_")[0]) for file in files] + [40.0] * 20
    images = [str(file) for file in files] + [draw_face(40, 0, seed=500 + index) for index in range(20)]
    table = write_table(tmp_path / "extra", images, ages)
    datasets.logging.enable_propagation()
    run_train(tmp_path / "run", num_train_epochs=1, extra_data=table, extra_share=0.5)
    datasets.logging.disable_propagation()
    results = read_results(tmp_path / "run")
    held_out = results["split_images"]["validation"] + results["split_images"]["test"]
    assert results["extra_images"] == len(files) + 20 - held_out
    # The images of the published test split go by their names, those of validation by their looks.
    assert "10 of 60 extra images resemble one that measures" in caplog.text
    assert results["arguments"]["extra_data"] == ["faces.parquet"]
    assert np.isfinite(results["history"][0]["train_loss"])


def test_a_teacher_alone_replaces_the_labels(run_train, tmp_path):
    """A teacher that says female and 60 years of all faces: so does its student, whatever the labels say."""
    run_train(tmp_path / "teacher", num_train_epochs=1)
    model = AgeGenderModel.from_pretrained(tmp_path / "teacher")
    with torch.no_grad():
        for head, index in ((model.age_head, 60), (model.gender_head, 1)):
            head.layers[-1].weight.zero_()
            head.layers[-1].bias.zero_()[index] = 12.0
    model.save_pretrained(tmp_path / "teacher")
    run_train(
        tmp_path / "student",
        teacher=tmp_path / "teacher",
        teacher_weight=1,
        # One epoch, since validation, which asks the labels, would choose the first of several.
        num_train_epochs=1,
        per_device_train_batch_size=2,
        ema_decay=0,
        learning_rate=0.03,
    )
    student = AgeGenderModel.from_pretrained(tmp_path / "student").eval()
    output = student(torch.randn(4, 3, 32, 32))
    assert output.age.tolist() == pytest.approx([60.0] * 4, abs=6)
    assert (output.gender_logits.argmax(dim=-1) == 1).all()
