"""Check rounding, gradients, and settings that must change nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor

from mixbench.augmentations.contract.case import Case, pixels_of
from mixbench.augmentations.contract.promise import expect, expect_close, expect_equal, promise
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.composite import chain, stages_of


@promise("half precision is mixed in float32 and rounded once")
def rounded_once(case: Case) -> None:
    if case.dtype == torch.float32:
        return
    images = case.images()
    # Between depths there is a layer, which gets what is rounded.
    for _, stages in groupby(stages_of(case.sample(images)), key=lambda stage: stage.depth):
        plan = chain(stages)
        in_full = pixels_of(plan, images.float())
        expect_equal(
            pixels_of(plan, images),
            in_full.to(case.dtype),
            "more is lost than by rounding the result",
        )


@promise("gradients flow through images, feature maps and feature vectors")
def gradients_flow(case: Case) -> None:
    """A mix is linear in the images, plus a fill: <g, mix(x) - mix(0)> = <gradient, x>."""
    images = case.images().float().contiguous()
    plan = case.sample(images)
    flat = (case.batch, images[0].numel())
    calls: list[tuple[str, Callable[[Tensor], Tensor], tuple[int, ...]]] = [
        ("images", lambda given: pixels_of(plan, given), images.shape),
        ("feature maps", plan.mix_features, images.shape),
        ("feature vectors", plan.mix_features, flat),
    ]
    for what, mix, shape in calls:
        given = images.reshape(shape).clone().requires_grad_()
        weight = case.noise(*images.shape, seed=1).float().reshape(shape)
        mixed = mix(given)
        expect(mixed.requires_grad, f"no gradient reaches the {what}")
        value = (weight * mixed).sum()
        (gradient,) = torch.autograd.grad(value, given)
        expect(bool(gradient.isfinite().all()), f"a gradient of the {what} is not finite")
        if not plan.is_linear:
            continue
        with torch.no_grad():
            at_zero = (weight * mix(torch.zeros_like(given))).sum()
            linear = (gradient * given).double().sum()
        expect_close(
            linear, value.double() - at_zero, f"the gradient of the {what} is wrong", rtol=1e-4
        )


def _everything(case: Case, plan: Plan | None = None) -> list[Tensor]:
    images = case.images()
    plan = case.sample(images) if plan is None else plan
    results = [
        pixels_of(plan, images),
        plan.mix_features(case.noise(case.batch, 20).float()),
        plan.mix_features(case.noise(case.batch, 20, 4, 6).float()),
    ]
    logits = case.noise(case.batch, 10, seed=5).float()
    for labels in (case.labels(), case.soft_labels()):
        targets = plan.mix_labels(labels, 10)
        results += [targets.weights, targets.dense(10), targets.cross_entropy(logits)]
    return results


@promise("autocast changes nothing")
def autocast(case: Case) -> None:
    # A network answers in the precision of its training: what is drawn from that may differ.
    drawn = case.sample(case.images()) if "model" in case.method().needs else None
    outside = _everything(case, drawn)
    with torch.autocast(case.device, dtype=torch.bfloat16):
        inside = _everything(case, drawn)
    for one, other in zip(outside, inside, strict=True):
        expect(one.dtype == other.dtype, f"{one.dtype} became {other.dtype} under autocast")
        expect_close(other, one, "values differ under autocast", atol=1e-5)


@promise("torch.set_default_dtype changes nothing", once=True)
def default_dtype(case: Case) -> None:
    expected = _everything(case)
    before = torch.get_default_dtype()
    for changed in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(changed)
        try:
            results = _everything(case)
        finally:
            torch.set_default_dtype(before)
        for one, other in zip(expected, results, strict=True):
            expect_equal(other, one, f"values differ where {changed} is the default")
