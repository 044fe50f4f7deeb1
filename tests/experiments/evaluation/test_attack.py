"""Attack: what FGSM and PGD do to networks of which it is known, and where they stay."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mixbench.experiments.evaluation.attack import AttackSettings, ball, losses, steps
from mixbench.experiments.evaluation.attack import measure as attack
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.image_random import ImageRandom
from tests.support import planted


def draws(count: int, seed: int = 0) -> ImageRandom:
    return ImageRandom(torch.arange(count), seed, "attack")


def furthest(found: Tensor, pixels: Tensor) -> Fraction:
    """The largest change of a value, without rounding."""
    pairs = zip(found.flatten().tolist(), pixels.flatten().tolist(), strict=True)
    return max(abs(Fraction(one) - Fraction(other)) for one, other in pairs)


def two_classes(weight: Tensor, bias: float) -> planted.Linear:
    """Class 1 where weight . x + bias is above 0."""
    return planted.Linear(
        torch.stack([torch.zeros_like(weight), weight]), torch.tensor([0.0, bias])
    )


@settings(max_examples=40, deadline=None)
@given(
    epsilon=st.floats(1e-4, 1) | st.sampled_from([2 / 255, 8 / 255, 1.0]),
    seed=st.integers(0, 10**6),
    pull=st.floats(-3, 3),
)
def test_all_stays_in_the_ball_and_in_the_range_exactly(
    epsilon: float, seed: int, pull: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    pixels = (torch.rand(6, 1, 4, 4, generator=generator) * 1.5 - 0.25).clamp(0, 1)
    labels = torch.arange(6) % 2
    network = two_classes(torch.randn(16, generator=generator), pull)
    found = [
        steps.fgsm(network, pixels, labels, epsilon),
        steps.pgd(network, pixels, labels, epsilon, steps=3, step=epsilon, draws=draws(6, seed))[0],
        ball.Ball(pixels, epsilon).random(draws(6, seed)),
    ]
    for images in found:
        assert images.min() >= 0 and images.max() <= 1
        assert furthest(images, pixels) <= Fraction(epsilon)
    assert furthest(found[0], pixels) > 0


def test_fgsm_of_a_linear_network_is_its_sign() -> None:
    weight = torch.tensor([2.0, -1.0, 0.5, 0.0])
    pixels = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.0, 1.0, 0.98, 0.3]]).view(2, 1, 2, 2)
    # Class 1 is right: the loss rises against the weights; class 0: along them.
    found = steps.fgsm(two_classes(weight, 0.0), pixels, torch.tensor([1, 0]), 0.1)
    expected = torch.tensor([[0.4, 0.6, 0.4, 0.5], [0.1, 0.9, 1.0, 0.3]])
    assert torch.allclose(found.flatten(1), expected, atol=1e-7)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.3, 0.2)])
def test_a_linear_network_falls_where_its_margin_is_less_than_epsilon_times_l1(
    mean: float, std: float
) -> None:
    # x = k/255 on all of 9 pixels, weights of sum 9 w and L1 norm 9 w: the margin is
    # w (9 x - 9 / 2), and epsilon lowers it by 9 w epsilon. So those with x - 1/2 < epsilon fall.
    shades = torch.tensor([128, 130, 134, 140, 150, 200], dtype=torch.uint8)
    images = shades.view(-1, 1, 1, 1).expand(-1, 1, 3, 3).contiguous()
    # In pixels; the network gets (x - mean) / std.
    network = two_classes(torch.full((9,), 2.0), -18 * (0.5 - mean) / std)
    subject = planted.subject(network, images, torch.ones(6).long(), mean=mean, std=std)
    asked = AttackSettings.model_validate({"epsilons": ["2/255", "8/255", 0.05]})
    with planted.untouched(network):
        found = attack.measure(subject, asked)
    # x - 1/2 in 255ths: 0.5, 2.5, 6.5, 12.5, 22.5, 72.5; epsilon 2, 8, 12.75.
    assert found.metrics == {
        "attack/clean": 1.0,
        "attack/fgsm/2-255": 5 / 6,
        "attack/pgd/2-255": 5 / 6,
        "attack/fgsm/8-255": 3 / 6,
        "attack/pgd/8-255": 3 / 6,
        "attack/fgsm/0.05": 2 / 6,
        "attack/pgd/0.05": 2 / 6,
    }
    assert found.curves["epsilon"] == [0.0, 2 / 255, 8 / 255, 0.05]
    assert found.curves["accuracy"]["fgsm"] == [1.0, 5 / 6, 3 / 6, 2 / 6]
    assert found.curves["step"] == pytest.approx([2 / 1020, 8 / 1020, 0.0125])


class Bent(nn.Module):
    """Class 1 but in a valley: one step along the slope jumps over it, small ones find it."""

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)[:, 0]
        height = (x - 0.55).abs() - 0.02
        return torch.stack([torch.zeros_like(height), 50 * height], dim=1)


def test_pgd_finds_what_fgsm_jumps_over() -> None:
    pixels, labels = torch.full((4, 1, 1, 1), 0.5), torch.ones(4).long()
    network = Bent()
    assert (network(steps.fgsm(network, pixels, labels, 0.1)).argmax(1) == 1).all()
    worst, right = steps.pgd(network, pixels, labels, 0.1, steps=10, step=0.025, draws=draws(4))
    assert not right.any() and (network(worst).argmax(1) == 0).all()


def test_what_was_found_is_what_is_said(digits_subject: Subject) -> None:
    network, test = digits_subject.network, digits_subject.split("test")
    pixels, labels = next(iter(digits_subject.pixels(test, 200)))

    def predict(images: Tensor) -> Tensor:
        return network(digits_subject.normalised(images))

    with planted.untouched(network):
        for epsilon in (0.05, 0.2):
            with input_gradients(network):
                worst, right = steps.pgd(
                    predict, pixels, labels, epsilon, steps=5, step=epsilon / 2, draws=draws(200)
                )
                once = steps.fgsm(predict, pixels, labels, epsilon)
                _, before, _ = losses.ascent(predict, pixels, labels)
                _, after, _ = losses.ascent(predict, worst, labels)
                _, single, _ = losses.ascent(predict, once, labels)
            assert torch.equal(predict(worst).argmax(1) == labels, right)
            assert furthest(worst[:5], pixels[:5]) <= Fraction(epsilon)
            assert (after[right] >= before[right] - 1e-6).all()
            assert (after[right] >= single[right] - 1e-6).all()
            assert not (right & (predict(once).argmax(1) != labels)).any()


def test_pgd_is_at_least_as_strong_as_fgsm_on_a_trained_network(digits_subject: Subject) -> None:
    asked = AttackSettings.model_validate({"epsilons": [0.02, 0.1, 0.2], "steps": 5})
    with planted.untouched(digits_subject.network):
        found = attack.measure(digits_subject, asked)
    once, often = (found.curves["accuracy"][name] for name in ("fgsm", "pgd"))
    assert once[0] == often[0] == found.metrics["attack/clean"] > 0.9
    assert all(a >= b for a, b in zip(once, often, strict=True))
    assert sorted(often, reverse=True) == often and often[-1] < once[-1] < 0.8
    assert found.curves["flat"] == 0.0


@pytest.mark.parametrize("size", [7, 64])
def test_the_same_whatever_the_batch(digits_subject: Subject, size: int) -> None:
    asked = AttackSettings.model_validate(
        {
            "epsilons": [0.1],
            "steps": 4,
            "images": 100,
            "also": ["apgd", "squares"],
            "apgd_steps": 5,
            "restarts": 1,
            "queries": 20,
        }
    )
    one = attack.measure(digits_subject, asked)
    raw = digits_subject.dataset.test
    other = planted.subject(
        digits_subject.network,
        raw.images,
        raw.labels,
        batch_size=size,  # type: ignore[attr-defined]
        mean=float(digits_subject.dataset.mean),
        std=float(digits_subject.dataset.std),
    )
    assert attack.measure(other, asked).metrics == one.metrics


def test_one_that_does_not_look_is_flat_and_stays() -> None:
    network = planted.Constant(torch.tensor([0.0, 1.0, 0.5]))
    images = torch.randint(256, (12, 1, 4, 4), dtype=torch.uint8)
    found = attack.measure(planted.subject(network, images, torch.arange(12) % 3), AttackSettings())
    assert len(found.metrics) == 5
    assert list(found.metrics.values()) == pytest.approx([1 / 3] * 5)
    assert found.curves["flat"] == 1.0


def test_a_confident_network_is_attacked_too() -> None:
    # Its margin of 200 leaves no gradient in single precision.
    network = two_classes(torch.full((4,), 400.0), -600.0)
    images = torch.full((3, 1, 2, 2), 128, dtype=torch.uint8)
    found = attack.measure(
        planted.subject(network, images, torch.ones(3).long()),
        AttackSettings.model_validate({"epsilons": [0.2]}),
    )
    assert found.metrics["attack/clean"] == 1.0 and found.metrics["attack/fgsm/51-255"] == 0.0
    assert found.curves["flat"] == 0.0


@pytest.mark.parametrize("wrong", [0, -0.1, 1.01, 8, "8", "0/255", "1/0", "a/b", True, None, "x"])
def test_epsilon_out_of_range_is_one_clear_line(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"above 0 and at most 1.*8/255") as caught:
        AttackSettings.model_validate({"epsilons": [wrong]})
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("right", [8 / 255, "8/255", " 8 / 255", "0.03137254901960784"])
def test_epsilon_is_a_number_or_a_fraction(right: Any) -> None:
    asked = AttackSettings.model_validate({"epsilons": [right]})
    assert math.isclose(asked.epsilons[0], 8 / 255)
    assert attack.metric_name(asked.epsilons[0]) == "8-255"


def test_names_of_epsilons() -> None:
    found = [attack.metric_name(value) for value in (1.0, 1 / 255, 0.5 / 255, 0.07)]
    assert found == ["255-255", "1-255", "0.00196078", "0.07"]
