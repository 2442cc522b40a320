"""Teachers: their predictions are averaged, at their own size and normalisation, and the student learns from them."""

import numpy as np
import pytest
import torch

from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel, AgeGenderOutput
from tests.support.models import make_config, make_model
from training.distillation import Teachers, compute_soft_loss


@pytest.fixture
def teacher_folders(tmp_path) -> list[str]:
    """Two models of other sizes, with other normalisations."""
    for seed, side in ((1, 32), (2, 48)):
        folder = tmp_path / f"teacher{seed}"
        make_model(seed=seed, image_size=side).save_pretrained(folder)
        processor = AgeGenderImageProcessor(size={"height": side, "width": side}, image_std=[0.1 * seed] * 3)
        processor.save_pretrained(folder)
    return [str(tmp_path / "teacher1"), str(tmp_path / "teacher2")]


def test_teachers_are_averaged_each_with_its_own_pixels(teacher_folders):
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ages, genders = Teachers(teacher_folders, make_config())(pixels)
    first = Teachers(teacher_folders[:1], make_config())(pixels)
    second = Teachers(teacher_folders[1:], make_config())(pixels)
    torch.testing.assert_close(ages, (first[0] + second[0]) / 2)
    torch.testing.assert_close(genders, (first[1] + second[1]) / 2)
    model = make_model(seed=1, mirror_averaging=False)
    mean = torch.tensor(AgeGenderImageProcessor.image_mean)[:, None, None]
    expected = model((pixels - mean) / 0.1).age_logits.softmax(dim=-1)
    torch.testing.assert_close(first[0], expected, rtol=1e-4, atol=1e-6)
    assert (first[0] - second[0]).abs().max() > 1e-4


def test_teachers_answer_for_the_ages_that_the_training_draws(teacher_folders):
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    weights = np.where(np.arange(121) < 50, 1.0, 4.0)
    plain, weighted = (Teachers(teacher_folders[:1], make_config(), each)(pixels)[0] for each in (None, weights))
    odds = [ages[:, 50:].sum(dim=-1) / ages[:, :50].sum(dim=-1) for ages in (plain, weighted)]
    torch.testing.assert_close(odds[1], 4 * odds[0])
    torch.testing.assert_close(weighted.sum(dim=-1), torch.ones(2))


def test_temperatures_of_teachers_do_not_reach_the_student(teacher_folders):
    """They were fitted to images that calibrate the student."""
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = Teachers(teacher_folders[:1], make_config())(pixels)[1]
    make_model(seed=1, image_size=32, gender_temperature=5.0).save_pretrained(teacher_folders[0])
    torch.testing.assert_close(Teachers(teacher_folders[:1], make_config())(pixels)[1], before)


def test_teachers_do_not_learn(teacher_folders):
    teachers = Teachers(teacher_folders, make_config())
    assert not any(parameter.requires_grad for parameter in teachers.parameters())
    assert not any(module.training for module in teachers.modules())


def test_a_teacher_with_other_classes_is_refused(teacher_folders):
    with pytest.raises(ValueError, match=r"teacher1 has num_age_classes=101, but the student 90"):
        Teachers(teacher_folders, make_config(num_age_classes=90))


def test_soft_loss_is_least_where_student_and_teacher_agree():
    config = make_config(age_loss_weight=2.0, gender_loss_weight=0.5)
    targets = torch.tensor([[0.2, 0.8]]), torch.tensor([[0.5, 0.5]])
    agreeing = AgeGenderOutput(age_logits=targets[0].log(), gender_logits=targets[1].log())
    entropies = [-(target * target.log()).sum().item() for target in targets]
    assert compute_soft_loss(config, agreeing, targets).item() == pytest.approx(2 * entropies[0] + 0.5 * entropies[1])
    other = AgeGenderOutput(age_logits=torch.zeros(1, 2), gender_logits=torch.tensor([[1.0, 0.0]]))
    assert compute_soft_loss(config, other, targets) > compute_soft_loss(config, agreeing, targets)


@pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")
def test_a_teacher_alone_replaces_the_labels(run_train, one_epoch, tmp_path):
    """The teacher predicts female and 60 years for all faces. So does its student, whatever the labels are."""
    teacher = AgeGenderModel.from_pretrained(one_epoch)
    with torch.no_grad():
        for head, index in ((teacher.age_head, 60), (teacher.gender_head, 1)):
            head.layers[-1].weight.zero_()
            head.layers[-1].bias.zero_()[index] = 12.0
    teacher.save_pretrained(tmp_path / "teacher")
    AgeGenderImageProcessor.from_pretrained(one_epoch).save_pretrained(tmp_path / "teacher")
    run_train(
        tmp_path / "student",
        teacher=tmp_path / "teacher",
        teacher_weight=1,
        num_train_epochs=1,  # of several epochs, validation, which uses the labels, would choose the first
        per_device_train_batch_size=2,
        ema_decay=0,
        learning_rate=0.03,
    )
    output = AgeGenderModel.from_pretrained(tmp_path / "student").eval()(torch.randn(4, 3, 32, 32))
    assert output.age.tolist() == pytest.approx([60.0] * 4, abs=6)
    assert (output.gender_logits.argmax(dim=-1) == 1).all()
