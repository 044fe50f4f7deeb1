"""Shift: AUROC and FPR against scikit-learn, and what is done to foreign images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.special import logsumexp
from torch import Tensor, nn

from mixbench.experiments.config import datasets, resolve
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.shift import ShiftSettings, detection
from mixbench.experiments.evaluation.shift import measure as shift
from tests.support import planted

BEFORE = ("shift/auroc", "shift/fpr95", "shift/confidence", "shift/own_confidence")
SCORES = st.lists(
    st.integers(-5, 5).map(float) | st.floats(-5, 5, width=32), min_size=1, max_size=40
)


@given(own=SCORES, foreign=SCORES)
def test_auroc_and_fpr_are_scikit_learns(own: list[float], foreign: list[float]) -> None:
    one, other = np.array(own), np.array(foreign)
    truth = np.r_[np.ones(len(one)), np.zeros(len(other))]
    scores = np.r_[one, other]
    assert detection.auroc(one, other) == pytest.approx(
        sklearn.metrics.roc_auc_score(truth, scores)
    )
    false, true, _ = sklearn.metrics.roc_curve(truth, scores, drop_intermediate=False)
    for share in (0.0, 0.5, 0.95, 1.0):
        expected = false[true >= share - 1e-12].min()
        assert detection.false_positives(one, other, share) == pytest.approx(expected)
    found = detection.average_precision(one, other)
    assert found == pytest.approx(sklearn.metrics.average_precision_score(truth, scores))


def test_auroc_by_hand() -> None:
    # Pairs: 3 > 1, 3 > 2, 2 > 1 and 2 = 2, which counts a half.
    assert detection.auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == 3.5 / 4
    assert detection.auroc(np.ones(5), np.ones(7)) == 0.5
    assert detection.false_positives(np.ones(5), np.ones(7), 0.95) == 1.0


def test_certainty_is_the_log_odds_of_the_largest_probability() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 4
    probability = scipy.special.softmax(logits, axis=1).max(axis=1)
    found = detection.certainty(logits)
    assert found == pytest.approx(scipy.special.logit(probability))
    assert detection.confidence(found) == pytest.approx(probability)
    # Where the largest probability is 1 to the last digit, it still tells which is larger.
    sure = detection.certainty(np.array([[50.0, 0.0], [60.0, 0.0], [800.0, 0.0]]))
    assert sure == pytest.approx([50, 60, 800])
    assert (detection.confidence(sure) == 1).all()


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
    assert {name: found.metrics[name] for name in BEFORE} == {
        "shift/auroc": 0.5,
        "shift/fpr95": 1.0,
        "shift/confidence": pytest.approx(chance),
        "shift/own_confidence": pytest.approx(chance),
    }
    # Guessing: precision is the share of positives.
    for score in detection.SCORES:
        assert found.metrics[f"shift/far/{score}/auroc"] == 0.5
        assert found.metrics[f"shift/far/{score}/aupr_in"] == pytest.approx(20 / (20 + 359))
        assert found.metrics[f"shift/far/{score}/aupr_out"] == pytest.approx(359 / (20 + 359))


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
    for name, near in shift.NEAR.items():
        assert near != name and datasets.info(near).channels == datasets.info(name).channels
        assert datasets.info(near).size <= datasets.info(name).size
    for name in (name for name in datasets.names() if "labels" in datasets.info(name).targets):
        other = shift.DEFAULTS[name]
        assert other != name and datasets.info(other).channels == datasets.info(name).channels
    assert datasets.info(shift.FOLDERS).channels == 3


def test_what_cannot_be_asked() -> None:
    subject = planted.subject(
        Mean(), torch.zeros((4, 1, 28, 28), dtype=torch.uint8), torch.zeros(4).long()
    )
    with pytest.raises(UserError, match=r"shift\.dataset: got 'fashion_mnist'.*another one"):
        shift.measure(subject, ShiftSettings(dataset="fashion_mnist"))
    with pytest.raises(UserError, match=r"shift\.near: got 'fashion_mnist'.*another one"):
        shift.measure(subject, ShiftSettings(near="fashion_mnist"))
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
    assert set(found.metrics.values()) == {None} and set(BEFORE) < set(found.metrics)


def test_scores_and_what_they_tell_by_hand() -> None:
    # Probabilities .5 and .9 against .8: confidence errs. Logits and energy tell them apart.
    own = np.array([[5.0, 5.0], [5.0, 5.0 - math.log(9)]])
    foreign = np.array([[0.0, math.log(4)]])
    assert detection.max_logit(own) == pytest.approx([5, 5])
    assert detection.energy(own) == pytest.approx([5 + math.log(2), 5 + math.log(10 / 9)])
    found = detection.detection(own, foreign)
    # In order: own, foreign, own. Precision of the own 1 at the first and 2/3 at the second; of the
    # foreign, second from the other end, 1/2.
    assert found["confidence/auroc"] == 0.5 and found["confidence/fpr95"] == 1.0
    assert found["confidence/aupr_in"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["confidence/aupr_out"] == pytest.approx(1 / 2)
    for score in ("max_logit", "energy"):
        assert [found[f"{score}/{key}"] for key in ("auroc", "fpr95", "aupr_in", "aupr_out")] == [
            1.0,
            0.0,
            1.0,
            1.0,
        ]


def test_each_planted_detector_is_found_by_its_score_alone() -> None:
    generator = np.random.default_rng(0)
    own, foreign = (generator.normal(size=(400, 5)) for _ in range(2))
    # The same probabilities, larger logits: confidence can't see it.
    found = detection.detection(own + 4, foreign)
    assert abs(found["confidence/auroc"] - 0.5) < 0.06 and found["confidence/fpr95"] > 0.9
    assert found["energy/auroc"] > 0.99 and found["max_logit/auroc"] > 0.99
    # The same energy, flatter for foreign images.
    flat = np.tile(logsumexp(own, axis=1, keepdims=True) - math.log(5), 5)
    found = detection.detection(own, flat)
    assert found["confidence/auroc"] == 1.0 and found["max_logit/auroc"] > 0.8
    assert found["energy/auroc"] == pytest.approx(0.5, abs=1e-3)


def test_near_far_and_classes_left_out_side_by_side(tmp_path: Path) -> None:
    run = resolve.parse(
        {"dataset": {"name": "digits", "image_size": 16, "left_out_classes": [7, "3"]}}
    )
    dataset = load(run.dataset)
    assert dataset.classes == tuple("01245689")
    every = load(run.dataset.model_copy(update={"left_out_classes": None}))
    kept = [number for number, name in enumerate(every.classes) if name not in "37"]
    assert sorted(map(every.classes.index, dataset.classes)) == kept
    counts = torch.tensor([int((every.test.labels == number).sum()) for number in kept])
    assert torch.equal(dataset.test.labels.bincount(), counts)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(20):
            Image.new("L", (16, 16), 200 + number).save(tmp_path / label / f"{number}.png")
    network = Mean()
    subject = Subject(network, dataset, run, torch.device("cpu"))
    asked = ShiftSettings(dataset=f"imagefolder:{tmp_path}", near="fashion_mnist", images=150)
    found = shift.measure(subject, asked)
    left_out = int(torch.isin(every.test.labels, torch.tensor([3, 7])).sum())
    sets = found.curves["sets"]
    assert {kind: one["images"] for kind, one in sets.items()} == {
        "far": sets["far"]["images"],
        "near": 150,
        "left_out": left_out,
    }
    assert sets["near"]["dataset"] == "fashion_mnist" and sets["left_out"]["dataset"] == "3, 7"
    # Bright images are more certain to it than digits are; digits that it does not know are digits.
    assert found.metrics["shift/far/energy/auroc"] == found.metrics["shift/auroc"] == 0.0
    nearest = found.metrics["shift/left_out/confidence/auroc"]
    assert nearest is not None and 0.35 < nearest < 0.65
    # Exactly the images of these classes, as the network's own are normalised.
    wanted = torch.isin(every.test.labels, torch.tensor([3, 7]))
    raw = torch.cat([images for images, _ in every.test.batches(500)])[wanted]
    assert any(
        part.shape == raw.shape and torch.allclose(part, subject.normalised(raw.float() / 255))
        for part in network.shown
    )


def test_classes_left_out_that_do_not_exist() -> None:
    def complaint(**dataset: object) -> str:
        with pytest.raises(UserError) as caught:
            load(resolve.parse({"dataset": {"name": "digits", **dataset}}).dataset)
        return str(caught.value)

    assert "unknown class of digits in dataset.left_out_classes: '11'; did" in complaint(
        left_out_classes=["11"]
    )
    assert "got 9 of the 10 classes of digits, expected at most 8" in complaint(
        left_out_classes=list(range(9))
    )
    assert "expected names of classes" in complaint(left_out_classes=[1.5])
    # In any order, as a number or as text, it is the same run; none is no setting at all.
    keys = {
        resolve.parse({"dataset": {"name": "digits", "left_out_classes": given}}).run_key
        for given in ([3, 7], ["7", "3", "3"])
    }
    assert len(keys) == 1
    plain = resolve.parse({"dataset": {"name": "digits"}}).run_key
    empty = {"dataset": {"name": "digits", "left_out_classes": []}}
    assert resolve.parse(empty).run_key == plain and plain not in keys
