"""Decision boundaries of networks of which it is known where they are and how sharp."""

from __future__ import annotations

import math

import foolbox
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.boundary import BoundarySettings
from mixbench.experiments.evaluation.boundary import measure as boundary
from mixbench.experiments.evaluation.boundary.search import Ask, along_gradient, along_lines
from mixbench.experiments.evaluation.gradients import input_gradients
from tests.support import planted


class Bands(nn.Module):
    """Black, grey or white, by the nearest of 0, 1/2 and 1 to the mean; linear in it."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, images: Tensor) -> Tensor:
        centres = torch.tensor([0.0, 0.5, 1.0])
        mean = images.flatten(1).mean(dim=1, keepdim=True)
        return self.sharpness * (mean * centres - centres.square() / 2)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.4, 0.25)])
def test_the_boundary_of_a_linear_network_is_where_it_is_on_paper(mean: float, std: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, generator=generator)
    # A pair, so that each image's line ends at the other one.
    images = torch.randint(256, (2, 3, 2, 2), generator=generator, dtype=torch.uint8)
    pixels = images.double().flatten(1) / 255
    raw = ((pixels - mean) / std) @ weight.double()
    bias = float(-raw.mean() - 0.1 * (raw[0] - raw[1]))
    network = planted.Linear(torch.stack([0 * weight, weight]), torch.tensor([0.0, bias]))
    with planted.untouched(network):
        found = boundary.measure(
            planted.subject(network, images, torch.tensor([0, 1]), mean=mean, std=std),
            BoundarySettings(),
        ).metrics
    odds, norm = raw + bias, float(weight.double().norm()) / std
    # Odds 0.4 d and -0.6 d: the lines cross at 0.4 and at 0.6 of their length.
    assert found == {
        "boundary/line/place": pytest.approx(0.5, abs=1e-4),
        "boundary/line/steepness": pytest.approx(float(odds[0] - odds[1]).__abs__() / 2, rel=1e-3),
        "boundary/line/entropy": pytest.approx(math.log(2), abs=1e-4),
        "boundary/line/changes": 1.0,
        "boundary/line/third": 0.0,
        "boundary/path/distance": pytest.approx(float(np.median(odds.abs())) / norm, rel=1e-3),
        "boundary/path/steepness": pytest.approx(norm / 2, rel=1e-3),
        "boundary/path/entropy": pytest.approx(math.log(2), abs=1e-4),
    }


@pytest.mark.parametrize("sharpness", [20.0, 400.0])
def test_planted_boundaries_are_found_and_a_class_between(sharpness: float) -> None:
    images = torch.zeros(8, 1, 4, 4, dtype=torch.uint8)
    images[4:] = 255
    subject = planted.subject(Bands(sharpness), images, torch.arange(8) // 4 * 2, batch_size=3)
    found = boundary.measure(subject, BoundarySettings(points=9))
    assert found.metrics["boundary/line/place"] == pytest.approx(0.25, abs=1e-3)
    assert found.metrics["boundary/line/changes"] == 2
    assert found.metrics["boundary/line/third"] == 1
    # Two classes share the boundary: of the third there is next to nothing if it is sharp.
    rest = math.exp(-sharpness * 0.25)
    at = 1 / (2 + rest)
    assert found.metrics["boundary/line/steepness"] == pytest.approx(at * sharpness / 2, rel=1e-2)
    # The mean changes fastest if all 16 values change alike.
    assert found.metrics["boundary/path/distance"] == pytest.approx(0.25 * 4, rel=1e-3)
    assert found.curves["own"] == pytest.approx([1, 1, 1, 0, 0, 0, 0, 0, 0], abs=1)
    assert found.curves["third"][3:6] == [1, 1, 1] and found.curves["reached"] == 1
    errors = found.curves["standard_error"]
    assert errors["line/changes"] == 0 and errors["path/distance"] == pytest.approx(0, abs=1e-3)


def test_where_there_is_no_boundary_there_is_no_number() -> None:
    images = torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8)
    for logits in ([0.0, 2.0, 1.0], [0.0, math.nan, 1.0]):
        subject = planted.subject(
            planted.Constant(torch.tensor(logits)), images, torch.arange(6) % 3
        )
        found = boundary.measure(subject, BoundarySettings())
        assert set(found.metrics.values()) == {None}
        assert found.curves["reached"] == 0 and found.curves["lines"] == 0
    subject = planted.subject(planted.Constant(torch.zeros(3)), images, torch.ones(6).long())
    with pytest.raises(Impossible, match="got one class"):
        boundary.measure(subject, BoundarySettings())


def test_a_trained_network_the_same_whatever_the_batch(digits_subject: Subject) -> None:
    data = digits_subject.dataset
    other = planted.subject(
        digits_subject.network,
        data.test.images,
        data.test.labels,  # type: ignore[attr-defined]
        mean=float(data.mean),
        std=float(data.std),
        batch_size=7,
    )
    settings = BoundarySettings(images=48, points=9)
    with planted.untouched(digits_subject.network):
        one = boundary.measure(digits_subject, settings)
    found = boundary.measure(other, settings).metrics
    assert found == pytest.approx(one.metrics, rel=1e-2)
    assert 0 < one.metrics["boundary/path/distance"] < 5  # type: ignore[operator]
    assert one.curves["own"][0] == one.curves["other"][-1] == 1


class _Asked(nn.Module):
    """A network that takes pixels."""

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self.forward = ask  # type: ignore[method-assign]


def _far(images: Tensor, found: Tensor) -> Tensor:
    return (found.double() - images.double()).flatten(1).norm(dim=1)


def test_foolbox_finds_the_same_boundaries_of_a_trained_network(digits_subject: Subject) -> None:
    images, _, _ = next(iter(digits_subject.indexed(48, 0)))

    def ask(pixels: Tensor) -> Tensor:
        shown = digits_subject.normalised(pixels.float())
        logits: Tensor = digits_subject.network(shown).double()
        return logits

    def attacked(attack: foolbox.Attack, bounds: tuple[float, float]) -> Tensor:
        oracle = foolbox.PyTorchModel(_Asked(ask).eval(), bounds=bounds, device="cpu")
        _, found, is_found = attack(oracle, images, own, epsilons=None)
        return torch.where(is_found, _far(images, found), torch.nan)

    with input_gradients(digits_subject.network):
        own = ask(images).argmax(dim=1)
        at, _, is_reached = along_gradient(ask, images, 50)
        assert is_reached.all()
        # DeepFool with the second class alone; which one is second may change on the way, and it
        # does not look at that.
        deepfool = foolbox.attacks.L2DeepFoolAttack(candidates=2, overshoot=0.02, loss="logits")
        ratio = _far(images, at) / attacked(deepfool, (-50, 50))
        assert ratio.median() == pytest.approx(1, abs=0.02)
        assert ((ratio > 0.9) & (ratio < 1.1)).all()
        # The line to grey, halved.
        line = along_lines(ask, images, torch.full_like(images, 0.5), 65)
        once = (line.predicted[1:] != line.predicted[:-1]).sum(dim=0) == 1
        halving = foolbox.attacks.BinarySearchContrastReductionAttack(target=0.5)
        assert once.sum() > 20
        assert _far(images, line.boundary)[once] == pytest.approx(
            attacked(halving, (0, 1))[once], rel=2e-3, abs=1e-3
        )


def test_no_boundary_of_a_linear_network_is_nearer_than_foolbox_finds_one() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 12, generator=generator)
    images = torch.rand(64, 3, 2, 2, generator=generator)

    def ask(pixels: Tensor) -> Tensor:
        return pixels.flatten(1).double() @ weight.double().T

    own = ask(images).argmax(dim=1)
    oracle = foolbox.PyTorchModel(_Asked(ask).eval(), bounds=(-50, 50), device="cpu")
    attack = foolbox.attacks.L2DeepFoolAttack(candidates=5, overshoot=0.02, loss="logits")
    _, found, _ = attack(oracle, images, own, epsilons=None)
    # It goes 2 % and 1e-4 too far, so as to be behind the boundary.
    nearest = _far(images, found) / 1.02 - 1e-4
    at, _, is_reached = along_gradient(ask, images, 50)
    assert is_reached.all()
    path = _far(images, at)
    assert (path > nearest - 1e-3).all()
    # The second class has the nearest boundary of most images, and is then found.
    assert (path < nearest + 1e-3).double().mean() > 0.5
    line = along_lines(ask, images, images.flip(0), 33)
    crossed = line.place.isfinite()
    assert crossed.sum() > 20
    assert (_far(images, line.boundary)[crossed] > nearest[crossed] - 1e-3).all()
