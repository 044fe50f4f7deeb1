"""Weakly labelled scenes: boxes of labels by hand, planted networks that see all or the wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mixbench.experiments.cli import prepare
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load_once
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.errors import Impossible, UserError
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.localisation import LocalisationSettings, measure, weak

P = "localisation/weak"
SCENES, LABELS, SIDE = 12, 4, 16


def scenes() -> tuple[Tensor, Tensor]:
    """Two objects in each scene, of two labels: pixels are 60 times label + 1; and their masks."""
    draws = np.random.RandomState(0)
    masks = torch.zeros(SCENES, 2, SIDE, SIDE, dtype=torch.uint8)
    for scene in range(SCENES):
        for number, label in enumerate(draws.choice(LABELS, 2, replace=False)):
            top, left = draws.randint(0, 8), 8 * number + draws.randint(0, 4)
            where = (slice(top, top + 5 + number), slice(left, left + 4))
            masks[(scene, 0, *where)], masks[(scene, 1, *where)] = int(label) + 1, number + 1
    return masks[:, :1] * 60, masks


class Sees(nn.Module):
    """A channel for each label, lit where a pixel is that label's; the logit is the mean."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        values = 60 / 255 * (torch.tensor(order).float() + 1)
        self.values = nn.Parameter(values.view(1, -1, 1, 1))
        self.lit = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.lit(1 - 20 * (images - self.values).abs())
        return self.pool(maps).flatten(1)


def subject_of(network: nn.Module, patch: pytest.MonkeyPatch) -> Subject:
    images, masks = scenes()
    there = [(masks[:, 0] == label + 1).flatten(1).any(dim=1) for label in range(LABELS)]
    own = ArraySplit(images, torch.stack(there, dim=1).float())
    masked = ArraySplit(images, masks)
    one = {"mean": torch.zeros(1), "std": torch.ones(1), "source": "", "digest": ""}
    data = Dataset("made", tuple("abcd"), own, own, own, **one, targets="multi_label")
    with_masks = dataclasses.replace(
        data, train=masked, validation=masked, test=masked, targets="masks"
    )
    patch.setattr(weak, "load_once", lambda *_: with_masks)
    section = {"name": "fashion_scenes", "targets": "multi_label", "image_size": 32}
    config = parse({"dataset": section, "evaluation": {"batch_size": 5}})
    return Subject(network, data, config, torch.device("cpu"))


def test_labels_have_the_boxes_of_all_their_objects() -> None:
    masks = torch.zeros(2, 2, 4, 8, dtype=torch.uint8)
    masks[1, 0, :2, :2], masks[1, 1, :2, :2] = 3, 1
    masks[1, 0, 3, 4:], masks[1, 1, 3, 4:] = 3, 2
    masks[1, 0, 1, 7], masks[1, 1, 1, 7] = 1, 5
    # At a seam the class of an object is open: its box goes there, its label is that of the rest.
    masks[1, 0, 0, 0] = 255
    shown = weak.shown_labels(torch.zeros(2, 1, 4, 8, dtype=torch.uint8), masks)
    assert list(zip(shown.scene.tolist(), shown.labels.tolist(), strict=True)) == [(1, 2), (1, 0)]
    assert shown.boxes.tolist() == [
        [[0, 0, 0.25, 0.5], [0.5, 0.75, 1, 1]],
        [[0.875, 0.25, 1, 0.5], [0, 0, 0, 0]],
    ]


def test_every_object_of_real_scenes_has_its_label() -> None:
    given = {"name": "fashion_scenes", "image_size": 48, "train_size": 20}
    section = parse({"dataset": {**given, "targets": "multi_label"}}).dataset
    own = load_once(section, "cpu").test
    masked = load_once(section.model_copy(update={"targets": "masks"}), "cpu").test
    images, masks = (torch.cat(parts) for parts in zip(*masked.batches(500), strict=True))
    labels = torch.cat([labels for _, labels in own.batches(500)])
    shown = weak.shown_labels(images, masks)
    found = torch.zeros_like(labels)
    found[shown.scene, shown.labels] = 1
    assert (masks[:, 0] == 255).any() and torch.equal(found, labels)


def test_who_sees_all_scores_one_and_who_sees_the_other_objects_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = measure.measure(subject_of(Sees([0, 1, 2, 3]), monkeypatch), LocalisationSettings())
    names = ("pointing", "energy", "max_box_acc_v2", "box_acc/30", "box_acc/70")
    assert [right.metrics[f"{P}/{name}"] for name in names] == [1.0] * 5
    assert right.curves["weak"]["labels"] == 2 * SCENES == len(right.arrays["weak_hits"])
    objects = (scenes()[1][:, 0] > 0).double().mean(dim=(1, 2)) / 2
    chance = right.metrics[f"{P}/energy/chance"]
    assert chance == pytest.approx(float(objects.mean()), rel=0.02)
    assert 0 < (right.metrics[f"{P}/max_box_acc_v2/centre"] or 0) < 0.7
    # Maps of other labels: lit where another object is, or nowhere, which counts as flat.
    wrong = measure.measure(subject_of(Sees([1, 2, 3, 0]), monkeypatch), LocalisationSettings())
    assert (wrong.metrics[f"{P}/pointing"] or 0) < 0.2
    assert (wrong.metrics[f"{P}/box_acc/50"] or 0) < 0.2


def test_other_sets_with_several_labels_say_not_where() -> None:
    config = DatasetConfig(name="fashion_mnist", targets="multi_label")
    with pytest.raises(Impossible, match="only fashion_scenes says so"):
        measure.prepare(LocalisationSettings(), config)


def test_only_what_fits_the_tasks_of_all_runs_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted: dict[str, dict[str, Any]] = {"localisation": {}, "calibration": {}}
    both = {"classification", "multi_label"}
    assert prepare._of_tasks(wanted, {"classification"}, by_name=True) == wanted
    assert prepare._of_tasks(wanted, both, by_name=False) == {"localisation": {}}
    assert capsys.readouterr().out == "left out, as runs have task multi_label: calibration\n"
    with pytest.raises(UserError, match=r"calibration is for classification, .*: localisation$"):
        prepare._of_tasks(wanted, both, by_name=True)
    with pytest.raises(UserError, match=r"its measurements are .* have task segmentation$"):
        prepare._of_tasks(wanted, {"segmentation"}, by_name=False)
