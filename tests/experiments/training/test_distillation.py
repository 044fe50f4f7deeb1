"""A teacher: its loss by hand, what never changes, whole runs that wait for it, what is refused."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations.forward import Forward, clean_batch, step_loss
from mixbench.augmentations.plans.base import Batch
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.config.schema import RunConfig, TeacherConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import Stopped
from mixbench.experiments.sweep.expand import expand
from mixbench.experiments.training.distillation import Distillation
from mixbench.experiments.training.loop import train
from mixbench.experiments.transfer.load import check_weights
from mixbench.experiments.worker.execute import load_run
from tests.support import running

CPU = torch.device("cpu")
CELL = "cell:0123456789abcdef"
RUN: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 64, "validation_size": 32},
    "model": {"name": "small_cnn", "width": 2},
    "training": {"epochs": 2, "batch_size": 32},
    "evaluation": {"occlusion": {"shapes": []}},
}
BIG = {"dataset": RUN["dataset"], "model.width": 3, "training": {"epochs": 1, "batch_size": 32}}


def spec(**parts: Any) -> dict[str, Any]:
    whole = {"name": "taught", "fixed": RUN, "pretrain": {"big": BIG}, "replicates": 1}
    return whole | {"grid": {"teacher.weights": [None, "pretrain:big"]}} | parts


def network(seed: int) -> nn.Module:
    """Linear after batch normalisation, whose statistics would tell a pass in training mode."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 4))


def cross_entropy(targets: augmentations.Targets, logits: Tensor) -> Tensor:
    return targets.cross_entropy(logits)


@pytest.mark.parametrize("sees", ["mixed", "clean"])
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_loss_and_gradients_are_those_of_the_published_step(sees: str, share: float) -> None:
    """Write Hinton's loss and Beyer's function matching out: one image and one class at a time."""
    images, labels = torch.randn(6, 3, 2, 2), torch.tensor([0, 1, 2, 3, 0, 1])
    method = augmentations.create("mixup", per_sample=True)
    plan = method.sample(images.shape, generator=torch.Generator().manual_seed(1))
    assert isinstance(plan, augmentations.Blend) and plan.partner is not None
    mixed = Batch(plan.mix_images(images), plan.mix_labels(labels, 4), plan)
    clean = clean_batch(images, labels, 4)
    student, teacher = network(0), network(1).requires_grad_(False).eval()
    before = copy.deepcopy(teacher.state_dict())
    config = TeacherConfig(weights=CELL, temperature=3, weight=share, sees=sees)
    criterion = Distillation(teacher, config).criterion(cross_entropy, clean, mixed)
    loss = step_loss(method, Forward(lambda batch: student(batch.images), criterion), clean, mixed)
    found = torch.autograd.grad(loss, list(student.parameters()))

    student.train()
    logits = student(mixed.images)
    answers = (teacher(mixed.images if sees == "mixed" else images) / 3).softmax(1)
    weights = mixed.targets.weights
    losses = []
    for row in range(6):
        soft = answers[row]
        if sees == "clean":
            own, other = mixed.targets.weights[row]
            soft = own * answers[row] + other * answers[int(plan.partner[row])]
        q = (logits[row] / 3).exp() / (logits[row] / 3).exp().sum()
        divergence = sum(p * (p.log() - q[k].log()) for k, p in enumerate(soft))
        hard = -sum(
            w * logits[row].log_softmax(0)[label]
            for w, label in zip(weights[row], mixed.targets.labels[row], strict=True)
        )
        losses.append(share * 9 * divergence + (1 - share) * hard)
    wanted = sum(losses) / 6
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(found, torch.autograd.grad(wanted, list(student.parameters())))
    assert all(one.grad is None for one in teacher.parameters())
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


@pytest.mark.usefixtures("runs")
def test_a_student_waits_for_its_teacher_and_a_stopped_run_ends_the_same() -> None:
    folder = running.planned(spec(grid={"teacher.weights": ["pretrain:big"]}))
    assert running.work(folder, "w") == 2
    big, student = folder.plan()
    assert student.folder.result() is not None and big.config["model"]["width"] == 3
    assert student.config["teacher"]["model"]["width"] == 3
    result, teachers = student.folder.result() or {}, big.folder.result() or {}
    metrics = result["metrics"]
    # As trained on the same images, and so normalised alike.
    assert metrics["teacher/accuracy"] == teachers["metrics"]["test/accuracy"]
    assert 0 <= metrics["test/agreement"] <= 1

    config = RunConfig.model_validate(student.config)
    runs = folder.path / "runs"
    states = []
    for stops in (0, 1):
        path = runs / f"again{stops}"
        path.mkdir()
        for stop in ("never", "once")[: 1 + stops][::-1]:
            asked = iter([False] * 3 + [stop == "once"])
            dataset, made = load_run(config, CPU, runs)
            stopping = functools.partial(next, asked, False)
            with running.one_thread(), contextlib.suppress(Stopped):
                train(made, dataset, config, CPU, path, _beat, stopping)
        states.append(made.state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_the_weight_of_a_teacher_is_tuned_where_there_is_one() -> None:
    tune = {"over": {"teacher.weight": [0.5, 1]}, "replicates": 2, "default": False}
    found = expand(spec(tune=tune))
    weights = Counter(
        run.teacher and run.teacher.weight
        for run, (run_key, _) in zip(found.runs, found.keys, strict=True)
        if found.is_tuning(run_key)
    )
    # Both settings on both replicates; the teachers of these are trained as well.
    assert weights == {0.5: 2, 1.0: 2}
    pairs = zip(found.runs, found.keys, strict=True)
    teachers = {run.seed for run, (_, cell) in pairs if cell in found.pretraining}
    assert teachers == {run.seed for run in found.runs} and len(teachers) == 3
    untaught = spec(tune=tune, grid={"augmentation": ["none", "mixup"]})
    untaught.pop("pretrain")
    with pytest.raises(UserError, match=r"no cell of the sweep has 'teacher\.weight'"):
        expand(untaught)


def _beat(progress: dict[str, Any] | None, *, force: bool = False) -> None:
    """Do nothing."""


def test_without_a_teacher_the_key_is_the_old_one_and_each_setting_is_another() -> None:
    def key(teacher: Any) -> str:
        return parse({**RUN, "teacher": teacher}).run_key

    assert key(None) == key({"weights": None, "temperature": 2}) == parse(RUN).run_key
    assert key({"weights": CELL, "model": RUN["model"]}) == key({"weights": CELL})
    keys = [
        key({"weights": CELL, **more})
        for more in ({}, {"temperature": 2}, {"weight": 0.5}, {"sees": "clean"})
    ]
    keys.append(key({"weights": CELL, "model": {"name": "small_cnn", "width": 3}}))
    assert len({*keys, parse(RUN).run_key}) == 6


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"teacher": {"temperature": 2}}, "teacher.weights: missing"),
        ({"teacher": {"weights": CELL, "temprature": 2}}, "did you mean 'temperature'"),
        ({"teacher": {"weights": CELL, "sees": "dirty"}}, "teacher.sees: got 'dirty'"),
        ({"teacher": {"weights": CELL, "weight": 0}}, "teacher.weight: got 0"),
        ({"teacher": {"weights": "nothing.pt"}}, "teacher.weights: "),
        ({"teacher": {"weights": "hub"}}, "teacher.weights: hub is for a model of timm"),
        ({"training.label_smoothing": 0.1}, "training.label_smoothing: got 0.1"),
        ({"augmentation": "manifold_mixup"}, "manifold_mixup mixes inside the network"),
        ({"transfer": {"weights": CELL.replace("0", "1")}}, "wait for one pretraining alone"),
    ],
)
def test_what_no_teacher_can_do_is_refused(parts: dict[str, Any], said: str) -> None:
    raw = {**RUN, "teacher": {"weights": CELL}}
    for name, value in parts.items():
        section, _, field = name.partition(".")
        raw[section] = {**raw.get(section, {}), field: value} if field else value
    with pytest.raises(UserError) as caught:
        parse(raw)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_teacher_of_other_classes_or_another_network_is_refused_before_any_run() -> None:
    fewer = {**BIG, "dataset": {"name": "digits", "left_out_classes": ["3"]}}
    found = expand(spec(pretrain={"big": fewer}))
    cells = {key: run for (_, key), run in zip(found.keys, found.runs, strict=True)}
    with pytest.raises(UserError, match=r"^teacher\.weights: it needs weights .* 10 .* for 9$"):
        check_weights(found.runs, cells)
    other = {"weights": "pretrain:big", "model": {"name": "small_cnn", "width": 5}}
    with pytest.raises(UserError, match=r"pretrain.big: .* width 3, .* as its teacher .* width 5"):
        expand(spec(grid={"teacher": [None, other]}))
