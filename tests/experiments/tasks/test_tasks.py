"""Tasks: mixed targets and losses by hand, metrics of other libraries, and going on exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import r2_score
from torch import Tensor
from torchmetrics.functional.classification import (
    multilabel_average_precision,
    multilabel_exact_match,
    multilabel_f1_score,
)

from mixbench.augmentations import Blend, create
from mixbench.experiments.config import resolve
from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.data.pictures import mixed_strip, target_text
from mixbench.experiments.data.preview_sheets import preview
from mixbench.experiments.data.sets import rotated_fashion_mnist
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.design import tasks
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.signals import Stopped
from mixbench.experiments.sweep.expand import expand
from mixbench.experiments.tasks.base import Task, task_of
from mixbench.experiments.training import loop

CPU = torch.device("cpu")
NUMBERS = torch.tensor([[10.0, 1.0], [30.0, 2.0], [20.0, 5.0], [50.0, 3.0]])
LABELS = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0]])


def configured(augmentation: Any = "none", **training: Any) -> RunConfig:
    return resolve.parse(
        {
            "dataset": {"name": "rotated_fashion_mnist", "train_size": 40, "image_size": 12},
            "model": {"name": "small_cnn", "width": 4},
            "augmentation": augmentation,
            "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.02, **training},
        }
    )


def dataset_of(targets: Tensor, kind: str) -> Dataset:
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (len(targets), 1, 12, 12), generator=draws, dtype=torch.uint8)
    split = ArraySplit(pixels, targets)
    mean, std = statistics(pixels)
    names = tuple("abcdef"[: targets.shape[1]])
    return Dataset("made", names, split, split, split, mean, std, "", "", targets=kind)


def made(kind: str, targets: Tensor) -> Task:
    config = configured()
    if kind == "multi_label":
        section = type(config.task)(name=kind)  # type: ignore[misc]
        config = config.model_copy(update={"task": section})
    return task_of(config, dataset_of(targets, kind), CPU)


def test_the_loss_of_mixed_numbers_is_that_of_their_weighted_sum() -> None:
    task = made("regression", NUMBERS)
    plan = Blend(torch.tensor([0.75, 1.0, 0.5, 0.0]).view(4, 1, 1, 1), torch.tensor([1, 0, 3, 2]))
    outputs = torch.tensor([[0.5, 0.5]]).expand(4, 2)
    # Scaled to [0, 1]: 10 to 50 and 1 to 5.
    mixed = [[0.125, 0.0625], [0.5, 0.25], [0.625, 0.75], [0.25, 1.0]]
    expected = sum((0.5 - value) ** 2 for row in mixed for value in row) / 8
    assert float(task.loss(task.mix(plan, NUMBERS), outputs)) == pytest.approx(expected, rel=1e-6)
    seen = task.seen(NUMBERS)
    assert seen is not None and seen[1].tolist() == [0.5, 0.25]


def test_the_loss_of_mixed_labels_is_the_weighted_sum_of_their_losses() -> None:
    task = made("multi_label", LABELS)
    mix = create("cutmix", per_sample=True)
    plan = mix.sample((4, 1, 12, 12), generator=torch.Generator().manual_seed(1))
    logits = torch.linspace(-2, 3, 12).view(4, 3)
    index, shares = plan.sources()
    each = torch.nn.functional.binary_cross_entropy_with_logits
    expected = sum(
        float(shares[b, k]) * float(each(logits[b], LABELS[index[b, k]]))
        for b in range(4)
        for k in range(index.shape[1])
    )
    found = task.loss(task.mix(plan, LABELS), logits)
    assert float(found) == pytest.approx(expected / 4, rel=1e-5)


def test_metrics_of_numbers() -> None:
    task = made("regression", NUMBERS)
    outputs = np.array([[0.1, 0.2], [0.4, 0.3], [0.2, 0.9], [0.9, 0.6]], dtype=np.float32)
    predicted = outputs * [40, 4] + [10, 1]
    found = task.scores(outputs, NUMBERS.numpy())
    assert found["r2"] == pytest.approx(r2_score(NUMBERS.numpy(), predicted), rel=1e-5)
    errors = predicted - NUMBERS.numpy()
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert found["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)
    perfect = task.scores(
        ((NUMBERS - torch.tensor([10, 1])) / torch.tensor([40, 4])).numpy(), NUMBERS.numpy()
    )
    assert perfect["rmse"] == pytest.approx(0, abs=1e-5) and perfect["r2"] == pytest.approx(1)
    same = task.scores(outputs[:1], NUMBERS.numpy()[:1])
    assert same["r2"] is None


def test_metrics_of_several_labels() -> None:
    task = made("multi_label", LABELS)
    draws = np.random.default_rng(0)
    labels = (draws.random((40, 3)) < [0.2, 0.5, 0.7]).astype(np.float32)
    logits = (draws.normal(size=(40, 3)) + labels).astype(np.float32)
    found = task.scores(logits, labels)
    given = torch.from_numpy(logits).sigmoid(), torch.from_numpy(labels).long()
    others = {
        "map_labels": multilabel_average_precision(*given, num_labels=3),
        "micro_f1": multilabel_f1_score(*given, num_labels=3, average="micro"),
        "macro_f1": multilabel_f1_score(*given, num_labels=3, average="macro"),
        "subset_accuracy": multilabel_exact_match(*given, num_labels=3),
    }
    assert {name: found[name] for name in others} == pytest.approx(
        {name: float(value) for name, value in others.items()}, rel=1e-5
    )
    perfect = task.scores(labels * 10 - 5, labels)
    assert all(perfect[name] == 1 for name in others)
    # A label that no image has, and that none is given.
    empty = task.scores(np.full((3, 2), -1.0), np.array([[1, 0], [0, 0], [1, 0]]))
    assert empty["map_labels"] == pytest.approx(2 / 3) and empty["macro_f1"] == 0


@pytest.mark.parametrize("kind", ["regression", "multi_label"])
def test_training_goes_on_exactly(tmp_path: Path, kind: str) -> None:
    draws = torch.Generator().manual_seed(3)
    targets = torch.rand(40, 2, generator=draws)
    targets = targets if kind == "regression" else targets.round()
    dataset = dataset_of(targets, kind)
    config = configured({"name": "c_mixup"})
    if kind == "multi_label":
        section = type(config.task)(name=kind)  # type: ignore[misc]
        config = config.model_copy(update={"task": section})

    def trained(folder: Path, stopping: Callable[[], bool]) -> tuple[dict[str, Tensor], list[Any]]:
        folder.mkdir(exist_ok=True)
        network = build(config.model, channels=1, classes=2, size=12, seed=0)
        loop.train(network, dataset, config, CPU, folder, lambda *_, **__: None, stopping)
        rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        kept = [{k: v for k, v in row.items() if k not in _OF_THE_CLOCK} for row in rows]
        return network.state_dict(), kept

    whole, rows = trained(tmp_path / "whole", lambda: False)
    asked = iter([False] * 4 + [True] * 99)
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", lambda: next(asked))
    parts, rows_of_parts = trained(tmp_path / "parts", lambda: False)
    assert rows == rows_of_parts and len(rows) == 3
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    first = tasks.info(kind).validation[0][0]
    network = build(config.model, channels=1, classes=2, size=12, seed=0)
    network.load_state_dict(whole)
    measured = task_of(config, dataset, CPU).measure(network, dataset, lambda: None)
    expected = rows[-1][f"validation/{first}"]
    assert measured.metrics[f"validation/{first}"] == pytest.approx(expected, rel=1e-5)
    assert measured.metrics[tasks.info(kind).headline.key] is not None
    assert measured.predictions["targets"].shape == (40, 2)


_OF_THE_CLOCK = ("time", "images_per_second")


def test_pictures_tell_the_targets() -> None:
    dataset = dataset_of(NUMBERS, "regression")
    assert target_text(dataset, NUMBERS[0]) == "a 10, b 1"
    assert target_text(dataset_of(LABELS, "multi_label"), LABELS[0]) == "a, c"
    for kind, targets in (("regression", NUMBERS), ("multi_label", LABELS)):
        made_of = dataset_of(targets, kind)
        assert mixed_strip(made_of, {"name": "c_mixup"})[:4] == b"\x89PNG"
        drawn = preview(made_of, {"name": "cutmix"}, rows=1, columns=2)
        assert drawn[:4] == b"\x89PNG"


def test_images_are_rotated_as_pillow_rotates_them() -> None:
    images = np.zeros((2, 1, 28, 28), np.uint8)
    images[:, 0, 4:10, 12:16] = 200
    angles = np.array([30, -90], np.float32)
    for image, turned, angle in zip(
        images, rotated_fashion_mnist.rotated(images, angles), angles, strict=True
    ):
        other = Image.fromarray(image[0]).rotate(float(angle), Image.Resampling.BILINEAR)
        assert np.abs(turned[0].astype(int) - np.asarray(other)).max() <= 2
    drawn = rotated_fashion_mnist.angles_of(2000, 0)
    assert np.abs(drawn).max() <= 90 and abs(drawn.mean()) < 4 and drawn[0] != drawn[1]
    assert isinstance(rotated_fashion_mnist.INFO, DatasetInfo)


def refused(changes: dict[str, Any], name: str = "rotated_fashion_mnist") -> str:
    raw: dict[str, Any] = {"dataset": {"name": name}, **changes}
    raw["dataset"] |= {} if "targets" not in changes else {"targets": raw.pop("targets")}
    with pytest.raises(UserError) as caught:
        resolve.parse(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_a_task_is_refused() -> None:
    methods = refused({"augmentation": {"name": "choice", "methods": ["mixup", "snapmix"]}})
    assert "augmentation: snapmix can't carry regression: it weighs labels" in methods
    assert "methods that can: " in methods and "c_mixup" in methods
    assert "training.loss: got bce, expected mse" in refused({"training": {"loss": "bce"}})
    assert "training.loss: got mse, expected ce or bce" in refused(
        {"training": {"loss": "mse"}}, "digits"
    )
    assert "training.sampler: got balanced" in refused({"training": {"sampler": "balanced"}})
    same = {"name": "mixup", "pairing": "same_class"}
    assert "pairing: same_class needs one class" in refused({"augmentation": same})
    assert "dataset.targets: got regression, but digits has labels alone; data sets with" in (
        refused({"targets": "regression"}, "digits")
    )
    both = refused({"targets": "labels", "task": "regression"})
    assert both == "task.name: regression needs dataset.targets: regression, got labels"
    assert "unknown task 'regresion'" in refused({"task": "regresion"})


def test_the_same_run_however_its_task_is_written() -> None:
    ways: list[dict[str, Any]] = [{}, {"task": "regression"}, {"task": {"name": "regression"}}]
    keys = {
        resolve.parse({"dataset": {"name": "rotated_fashion_mnist"}, **way}).run_key for way in ways
    }
    stored = configured().model_dump(mode="json")
    assert len(keys) == 1 and resolve.parse(stored).run_key == configured().run_key
    plain = resolve.parse(
        {"dataset": {"name": "digits", "targets": "labels"}, "task": "classification"}
    )
    assert plain.run_key == resolve.parse({"dataset": {"name": "digits"}}).run_key
    assert plain.task is None and plain.dataset.targets is None


def test_a_question_without_a_metric_is_about_the_headline_of_the_task() -> None:
    spec: dict[str, Any] = {
        "name": "angles",
        "fixed": {"dataset": {"name": "rotated_fashion_mnist", "train_size": 100}},
        "grid": {"augmentation.name": ["none", "mixup"]},
        "replicates": 2,
        "question": {"margin": 0.5},
    }
    assert expand(spec).spec["question"] == {"metric": "test/rmse", "margin": 0.5}
    with pytest.raises(UserError, match="unknown metric in question 'test/accuracy'"):
        expand(spec | {"question": {"metric": "test/accuracy"}})


def test_every_task_says_what_its_metrics_are() -> None:
    """Below the report's table; those of classification are in the page's own note."""
    unexplained = [name for name in tasks.names() if not tasks.info(name).note]
    assert unexplained == [tasks.CLASSIFICATION]
