"""Shift: AUROC and FPR against scikit-learn, and what is done to foreign images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from mixbench.experiments.config import datasets
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.shift import ShiftSettings
from mixbench.experiments.evaluation.shift import measure as shift
from tests.support import planted

SCORES = st.lists(
    st.integers(-5, 5).map(float) | st.floats(-5, 5, width=32), min_size=1, max_size=40
)


@given(own=SCORES, foreign=SCORES)
def test_auroc_and_fpr_are_scikit_learns(own: list[float], foreign: list[float]) -> None:
    one, other = np.array(own), np.array(foreign)
    truth = np.r_[np.ones(len(one)), np.zeros(len(other))]
    scores = np.r_[one, other]
    assert shift.auroc(one, other) == pytest.approx(sklearn.metrics.roc_auc_score(truth, scores))
    false, true, _ = sklearn.metrics.roc_curve(truth, scores, drop_intermediate=False)
    for share in (0.0, 0.5, 0.95, 1.0):
        expected = false[true >= share - 1e-12].min()
        assert shift.false_positives(one, other, share) == pytest.approx(expected)


def test_auroc_by_hand() -> None:
    # Pairs: 3 > 1, 3 > 2, 2 > 1 and 2 = 2, which counts a half.
    assert shift.auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == 3.5 / 4
    assert shift.auroc(np.ones(5), np.ones(7)) == 0.5
    assert shift.false_positives(np.ones(5), np.ones(7), 0.95) == 1.0


def test_certainty_is_the_log_odds_of_the_largest_probability() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 4
    probability = scipy.special.softmax(logits, axis=1).max(axis=1)
    found = shift.certainty(logits)
    assert found == pytest.approx(scipy.special.logit(probability))
    assert shift.confidence(found) == pytest.approx(probability)
    # Where the largest probability is 1 to the last digit, it still tells which is larger.
    sure = shift.certainty(np.array([[50.0, 0.0], [60.0, 0.0], [800.0, 0.0]]))
    assert sure == pytest.approx([50, 60, 800])
    assert (shift.confidence(sure) == 1).all()


class Mean(nn.Module):
    """More sure of what is brighter; keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), mean], dim=1)


def test_one_that_does_not_look_cannot_tell() -> None:
    images = torch.zeros((20, 1, 28, 28), dtype=torch.uint8)
    network = planted.Constant(torch.tensor([0.0, 1.0]))
    found = shift.measure(planted.subject(network, images, torch.zeros(20).long()), ShiftSettings())
    chance = scipy.special.expit(1.0)
    assert found.metrics == {
        "shift/auroc": 0.5,
        "shift/fpr95": 1.0,
        "shift/confidence": pytest.approx(chance),
        "shift/own_confidence": pytest.approx(chance),
    }


def test_own_images_that_get_more_confidence_are_told_apart() -> None:
    # White against digits, most of which is black.
    images = torch.full((20, 1, 28, 28), 255, dtype=torch.uint8)
    network = Mean()
    subject = planted.subject(network, images, torch.zeros(20).long(), mean=0.25, std=0.5)
    found = shift.measure(subject, ShiftSettings())
    assert found.metrics["shift/auroc"] == 1.0 and found.metrics["shift/fpr95"] == 0.0
    described = {
        key: found.curves[key]
        for key in ("dataset", "images", "size", "own_size", "resized", "channels", "own_channels")
    }
    assert described == {
        "dataset": "digits",
        "images": 359,
        "size": 8,
        "own_size": 28,
        "resized": True,
        "channels": 1,
        "own_channels": 1,
    }
    # Normalised as the network's own images are, not by the digits' own mean.
    shown = torch.cat([part for part in network.shown if part.shape[0] != 20])
    assert shown.shape[1:] == (1, 28, 28) and float(shown.min()) == pytest.approx(-0.5)
    assert found.curves["confidence"]["own"][-7:].count(20) == 1
    assert sum(found.curves["confidence"]["foreign"]) == 359
    assert found.curves["roc"]["false"][0] == 0 and found.curves["roc"]["false"][-1] == 0


def test_grey_becomes_colour_and_colour_luminance() -> None:
    grey = torch.rand(2, 1, 4, 4)
    assert torch.equal(shift.as_channels(grey, 3), grey.repeat(1, 3, 1, 1))
    assert shift.as_channels(grey, 1) is grey
    colour = torch.rand(2, 3, 4, 4)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert torch.allclose(shift.as_channels(colour, 1), (colour * weights).sum(1, keepdim=True))


def test_digits_for_a_network_of_colours() -> None:
    images = torch.full((8, 3, 32, 32), 255, dtype=torch.uint8)
    network = Mean()
    subject = planted.subject(network, images, torch.zeros(8).long(), name="cifar10")
    found = shift.measure(subject, ShiftSettings(dataset="digits", images=100))
    assert found.metrics["shift/auroc"] == 1.0
    assert found.curves["images"] == 100 and found.curves["own_channels"] == 3
    assert all(part.shape[1:] == (3, 32, 32) for part in network.shown)


def test_a_folder_of_pictures_for_a_grey_network(tmp_path: Path) -> None:
    for label, shade in (("a", 10), ("b", 60)):
        (tmp_path / label).mkdir()
        for number in range(12):
            Image.new("RGB", (40, 30), (shade + number, 0, 0)).save(
                tmp_path / label / f"{number}.png"
            )
    images = torch.full((20, 1, 28, 28), 255, dtype=torch.uint8)
    subject = planted.subject(Mean(), images, torch.zeros(20).long())
    found = shift.measure(subject, ShiftSettings(dataset=f"imagefolder:{tmp_path}"))
    assert found.metrics["shift/auroc"] == 1.0
    assert found.curves["channels"] == 3 and found.curves["resized"] is True


def test_a_trained_network_knows_its_own(digits_subject: Subject) -> None:
    found = shift.measure(digits_subject, ShiftSettings(images=300))
    assert found.curves["dataset"] == "fashion_mnist" and found.curves["own_size"] == 16
    assert 0.6 < found.metrics["shift/auroc"] <= 1  # type: ignore[operator]
    again = shift.measure(digits_subject, ShiftSettings(images=300))
    assert again.metrics == found.metrics


def test_each_data_set_has_another_one_with_as_many_channels() -> None:
    for name in datasets.names():
        other = shift.DEFAULTS[name]
        assert other != name and datasets.info(other).channels == datasets.info(name).channels
    assert datasets.info(shift.FOLDERS).channels == 3


def test_what_cannot_be_asked() -> None:
    subject = planted.subject(
        Mean(), torch.zeros((4, 1, 28, 28), dtype=torch.uint8), torch.zeros(4).long()
    )
    with pytest.raises(UserError, match=r"shift\.dataset: got 'fashion_mnist'.*another one"):
        shift.measure(subject, ShiftSettings(dataset="fashion_mnist"))
    with pytest.raises(UserError, match=r"shift\.dataset: unknown dataset 'digit'; did you mean"):
        catalogue.parse("shift", {"dataset": "digit"})
    five = planted.subject(
        Mean(), torch.zeros((4, 5, 28, 28), dtype=torch.uint8), torch.zeros(4).long()
    )
    with pytest.raises(UserError, match=r"shift\.dataset: digits has 1 channels, expected 5"):
        shift.measure(five, ShiftSettings(dataset="digits"))


def test_no_numbers_give_none() -> None:
    network = planted.Constant(torch.tensor([0.0, float("nan")]))
    images = torch.zeros((4, 1, 28, 28), dtype=torch.uint8)
    found = shift.measure(planted.subject(network, images, torch.zeros(4).long()), ShiftSettings())
    assert set(found.metrics.values()) == {None} and len(found.metrics) == 4
