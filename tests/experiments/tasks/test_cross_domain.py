"""Cross-domain: who is mixed with whom, what tests, and that nothing is selected on it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench.augmentations import create
from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.data.domains import fonts, join
from mixbench.experiments.data.load import load
from mixbench.experiments.data.pictures import mixed_strip
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.signals import Stopped
from mixbench.experiments.sweep import load as sweeps
from mixbench.experiments.tasks.base import task_of
from mixbench.experiments.training import loop

CPU = torch.device("cpu")


def configured(
    mixing: str | None = None, augmentation: Any = "mixup", staging: Any = None, **dataset: Any
) -> RunConfig:
    return resolve.parse(
        {
            "dataset": {
                "name": "domains",
                "domains": ["digits", "digits@90"],
                "target": "digits@180",
                "train_size": 80,
                "validation_size": 40,
                "image_size": 8,
                **dataset,
            },
            "task": {"name": "cross_domain", "mixing": mixing},
            "model": {"name": "small_cnn", "width": 2},
            "augmentation": augmentation,
            "staging": staging,
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.02},
        }
    )


@pytest.mark.parametrize("mixing", ["within", "between"])
def test_partners_are_chosen_by_their_domains(mixing: str) -> None:
    config = configured(mixing, {"name": "choice", "methods": ["mixup", "cutmix"]})
    draws = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (16, 2), generator=draws)
    targets[:8, 1], targets[8:, 1] = 0, 1
    pixels = torch.randint(256, (16, 1, 8, 8), generator=draws, dtype=torch.uint8)
    split = ArraySplit(pixels, targets)
    made = Dataset("made", tuple("01"), split, split, split, *statistics(pixels), "", "")
    task = task_of(config, made, CPU)
    method = task.paired(create(**config.augmentation))
    for seed in range(4):
        drawn = torch.Generator().manual_seed(seed)
        plan = method.sample((16, 1, 8, 8), labels=task.seen(targets), generator=drawn)
        index, shares = plan.sources()
        same = targets[index, 1] == targets[:, None, 1]
        others = index != torch.arange(16)[:, None]
        assert bool((same == (mixing == "within"))[others].all()) and bool(others.any())
        # Labels are those of classes, by brute force.
        expected = torch.zeros(16, 2)
        for b in range(16):
            for k in range(index.shape[1]):
                expected[b, targets[index[b, k], 0]] += shares[b, k]
        torch.testing.assert_close(task.mix(plan, targets).dense(2), expected)


def test_domains_are_as_large_as_each_other_and_share_no_image() -> None:
    loaded = load(configured().dataset)
    assert loaded.train.labels.shape == (80, 2) and loaded.classes == tuple("0123456789")
    for split, count in ((loaded.train, 4), (loaded.validation, 2)):
        pairs = Counter(map(tuple, split.labels.tolist()))
        assert set(pairs.values()) == {count} and len(pairs) == 20
    assert set(loaded.test.labels[:, 1].tolist()) == {2} and len(loaded.test) == 599
    # Every image is stretched from black to white.
    assert bool((loaded.train.images.flatten(1).amax(1) == 255).all())
    assert bool((loaded.train.images.flatten(1).amin(1) == 0).all())
    pools = join._pools(("digits", "digits@90", "digits@180"), (8, 8))
    assert sum(len(labels) for _, labels in pools) == 1797
    # A quarter turn back, they are other images.
    back = np.rot90(pools[1][0], -1, axes=(2, 3))
    here, there = ({one.tobytes() for one in images} for images in (pools[0][0], back))
    assert len(here & there) < 10
    assert mixed_strip(loaded, {"name": "mixup"})[:4] == b"\x89PNG"


def trained(
    config: RunConfig, dataset: Dataset, folder: Path, stopping: Callable[[], bool] = lambda: False
) -> tuple[dict[str, Tensor], list[Any]]:
    folder.mkdir(exist_ok=True)
    network = build(config.model, channels=1, classes=10, size=8, seed=0)
    loop.train(network, dataset, config, CPU, folder, lambda *_, **__: None, stopping)
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    return network.state_dict(), [(row["train/loss"], row["validation/nll"]) for row in rows]


def test_the_target_selects_nothing_and_training_goes_on_exactly(tmp_path: Path) -> None:
    config = configured("between", "mixstyle")
    dataset = load(config.dataset)
    whole, rows = trained(config, dataset, tmp_path / "whole")
    asked = iter([False] * 6 + [True] * 99)
    with pytest.raises(Stopped):
        trained(config, dataset, tmp_path / "parts", lambda: next(asked))
    # Poisoned: no label of the target is a class, and all its images are black.
    test = dataset.test
    poison = ArraySplit(torch.zeros_like(next(test.batches(999))[0]), test.labels - 10_000)
    poisoned = Dataset(**{**vars(dataset), "test": poison})
    parts, rows_of_parts = trained(config, poisoned, tmp_path / "parts")
    assert rows == rows_of_parts and len(rows) == 2
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    network = build(config.model, channels=1, classes=10, size=8, seed=0)
    network.load_state_dict(whole)
    measured = task_of(config, dataset, CPU).measure(network, dataset, lambda: None)
    outputs, targets = (measured.predictions[name] for name in ("outputs", "targets"))
    expected = (outputs.argmax(1) == targets[:, 0]).mean()
    assert measured.metrics["target/accuracy"] == pytest.approx(expected) and len(outputs) == 599
    assert measured.metrics["validation/nll"] == pytest.approx(rows[-1][1], rel=1e-5)
    assert not any(name.startswith("test/") for name in measured.metrics)


def test_a_planned_sweep_has_every_way_to_mix() -> None:
    for name in ("cross_domain", "cross_modal"):
        found = sweeps.load(name, scale="quick")
        ways = Counter(
            (run.augmentation["name"], run.task and run.task.mixing) for run in found.runs
        )
        assert ways["none", None] and not ways["mixup", None] and not ways["cutmix", None]
        for run, (run_key, _) in list(zip(found.runs, found.keys, strict=True))[::7]:
            assert resolve.parse(run.model_dump(mode="json")).run_key == run_key
    staged = configured(None, "mixup", staging="last_50")
    assert staged.task is not None and staged.task.mixing == "any"
    assert resolve.parse(staged.model_dump(mode="json")).run_key == staged.run_key


def refused(**changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        configured(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_domains_that_can_not_be_are_refused() -> None:
    twice = refused(domains=["mnist_5k", "digits"], target="digits")
    assert "dataset.domains: digits is named twice" in twice
    assert "mnist_5k@0 is named twice" in refused(domains=["mnist_5k", "mnist_5k@0"])
    assert "unknown domain 'mnist5k'; did you mean 'mnist_5k'?" in refused(domains=["mnist5k"])
    assert "got the angle 'x', expected whole degrees" in refused(domains=["digits@x"])
    assert "fashion_mnist and digits@180 show other classes" in refused(domains=["fashion_mnist"])
    assert "dataset.target: dataset.name: domains needs" in refused(target=None)
    assert "dataset.domains: is for dataset.name: domains, got digits" in refused(name="digits")
    alone = refused(mixing="between", domains=["digits"])
    assert "task.mixing: between needs two domains to train on, got digits" in alone
    assert "snapmix can't carry cross_domain" in refused(augmentation="snapmix")


def test_a_font_without_digits_is_left_out(tmp_path: Path) -> None:
    import matplotlib

    (tmp_path / "broken.ttf").write_text("no font")
    assert fonts.glyphs_of(tmp_path / "broken.ttf") is None
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    glyphs = fonts.glyphs_of(folder / "DejaVuSans.ttf")
    assert glyphs is not None and glyphs.shape == (10, 1, 28, 28)
    # A 1 is higher than wide, in the middle, with a border of 4 pixels.
    rows, columns = (np.nonzero(glyphs[1, 0].max(axis))[0] for axis in (1, 0))
    assert (rows.min(), rows.max()) == (4, 23) and columns.max() - columns.min() < 16
