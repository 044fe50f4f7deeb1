"""Smoothness: gradients, flips and entropies of networks of which they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.gradients import input_gradients, slope
from mixbench.experiments.evaluation.smoothness import SmoothnessSettings
from mixbench.experiments.evaluation.smoothness import measure as smoothness
from tests.support import planted


def ask(**values: object) -> SmoothnessSettings:
    return SmoothnessSettings.model_validate(values)


def two_classes(weight: Tensor, bias: float) -> planted.Linear:
    return planted.Linear(
        torch.stack([torch.zeros_like(weight), weight]), torch.tensor([0.0, bias])
    )


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.4, 0.25)])
def test_a_linear_network_has_the_gradients_that_it_has_on_paper(mean: float, std: float) -> None:
    # In pixels the log odds are a = w . x + b, with the normalisation's deviation in w.
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, generator=generator)
    images = torch.randint(256, (50, 3, 2, 2), generator=generator, dtype=torch.uint8)
    labels = torch.arange(50) % 2
    network = two_classes(weight, 0.3)
    with planted.untouched(network):
        found = smoothness.measure(
            planted.subject(network, images, labels, mean=mean, std=std), ask()
        )
    pixels = images.double().flatten(1) / 255
    odds = ((pixels - mean) / std) @ weight.double() + 0.3
    norm = float(weight.double().norm()) / std
    wrong = torch.where(labels == 1, torch.sigmoid(-odds), torch.sigmoid(odds))
    expected = {
        "loss_gradient": float(wrong.mean()) * norm,
        "margin_gradient": norm,
        "distance": float(np.median(odds.abs())) / norm,
        "margin": float((2 * torch.sigmoid(odds) - 1).abs().mean()),
        "entropy": float(scipy.stats.bernoulli.entropy(torch.sigmoid(odds).numpy()).mean()),
    }
    for name, value in expected.items():
        assert found.metrics[f"smoothness/{name}"] == pytest.approx(value, rel=1e-5), name


def test_noise_flips_a_linear_network_as_often_as_it_should() -> None:
    # From the middle of the range, so that nothing is clipped: flips are N(0, sigma |w|) > margin.
    weight = torch.linspace(-1, 1, 64)
    images = torch.full((500, 1, 8, 8), 128, dtype=torch.uint8)
    at = float((weight * (128 / 255)).sum())
    network = two_classes(weight, 0.2 - at)
    found = smoothness.measure(
        planted.subject(network, images, torch.ones(500).long()),
        ask(sigmas=[0.02, 0.05, 0.1], draws=8),
    )
    for sigma in (0.02, 0.05, 0.1):
        chance = scipy.stats.norm.sf(0.2 / (sigma * float(weight.norm())))
        spread = math.sqrt(chance * (1 - chance) / 4000)
        assert found.metrics[f"smoothness/flip/{sigma:g}"] == pytest.approx(chance, abs=4 * spread)
    assert found.curves["draws"] == 8


def test_one_that_does_not_look_never_changes_its_mind() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0])
    images = torch.randint(256, (30, 1, 8, 8), dtype=torch.uint8)
    found = smoothness.measure(
        planted.subject(planted.Constant(logits), images, torch.arange(30) % 3), ask()
    )
    chances = scipy.special.softmax(logits.double().numpy())
    assert found.metrics == {
        "smoothness/loss_gradient": 0.0,
        "smoothness/margin_gradient": 0.0,
        "smoothness/distance": None,
        "smoothness/flip/0.02": 0.0,
        "smoothness/flip/0.05": 0.0,
        "smoothness/entropy": pytest.approx(scipy.stats.entropy(chances)),
        "smoothness/margin": pytest.approx(chances[1] - chances[2]),
    }
    assert found.curves["distance"] == [None] * 5


def test_entropy_and_margins() -> None:
    rows = np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.7, 0.1, 0.1, 0.1]])
    assert smoothness.entropy(rows) == pytest.approx(scipy.stats.entropy(rows, axis=1))
    assert smoothness.entropy(rows)[:3] == pytest.approx([math.log(4), 0, math.log(2)])
    assert smoothness.margins(rows) == pytest.approx([0, 1, 0, 0.6])


def test_no_numbers_give_none() -> None:
    network = planted.Constant(torch.tensor([0.0, math.nan]))
    images = torch.zeros((4, 1, 8, 8), dtype=torch.uint8)
    found = smoothness.measure(planted.subject(network, images, torch.zeros(4).long()), ask())
    assert found.metrics["smoothness/entropy"] is None
    assert all(v is None or math.isfinite(v) for v in found.metrics.values())


@pytest.mark.parametrize("size", [7, 64])
def test_a_trained_network_the_same_whatever_the_batch(digits_subject: Subject, size: int) -> None:
    data = digits_subject.dataset
    other = planted.subject(
        digits_subject.network,
        data.test.images,
        data.test.labels,  # type: ignore[attr-defined]
        mean=float(data.mean),
        std=float(data.std),
        batch_size=size,
    )
    asked = ask(images=150, sigmas=[0.05, 0.2])
    with planted.untouched(digits_subject.network):
        one = smoothness.measure(digits_subject, asked).metrics
    found = smoothness.measure(other, asked).metrics
    assert found == pytest.approx(one, rel=1e-4)
    for name in ("flip/0.05", "flip/0.2"):
        assert found[f"smoothness/{name}"] == one[f"smoothness/{name}"]
    assert one["smoothness/flip/0.05"] < one["smoothness/flip/0.2"] < 0.9  # type: ignore[operator]
    assert 0 < one["smoothness/distance"] < 5  # type: ignore[operator]


def test_gradients_agree_with_differences(digits_subject: Subject) -> None:
    pixels, labels = next(iter(digits_subject.pixels(digits_subject.split("test"), 5)))
    found = smoothness._slopes  # the norms that are averaged
    with input_gradients(digits_subject.network):
        norm, _, _, _ = found(digits_subject, pixels, labels)
        images = pixels.clone().requires_grad_(True)
        loss = F.cross_entropy(
            digits_subject.network(digits_subject.normalised(images)), labels, reduction="sum"
        )
        direction = slope(loss, images)

    def at(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits = digits_subject.network(digits_subject.normalised(images)).double()
        return F.cross_entropy(logits, labels, reduction="none")

    unit = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    # Small, because ReLU bends; not too small for single precision.
    step = 3e-4
    steepness = (at(pixels + step * unit) - at(pixels - step * unit)) / (2 * step)
    assert norm.numpy() == pytest.approx(steepness.numpy(), rel=0.06, abs=1e-2)


@pytest.mark.parametrize("field", [{"sigmas": [0]}, {"sigmas": [2]}, {"draws": 0}, {"sigmas": []}])
def test_settings_out_of_range(field: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"greater than|less than|at least 1"):
        ask(**field)
