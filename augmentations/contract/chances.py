"""Check how often a method mixes (`prob`), and what the samples of a batch share.

Seeds are fixed, so verdicts are reproducible. A correct method fails by bad luck with a probability
of 6e-7 for each of the two rates (five standard errors).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mixbench.augmentations.contract.case import Case, pixels_of
from mixbench.augmentations.contract.promise import expect, expect_close, expect_equal, promise
from mixbench.augmentations.method import Method

SIGMAS = 5.0
PROB = 0.3
SMALL = (8, 8)


@promise("prob=0 is the identity")
def prob_zero(case: Case) -> None:
    images, labels = case.images(), case.labels()
    batch = replace(case, prob=0.0).mix(images, labels)
    expect_equal(batch.images, images, "with prob=0 images are changed")
    expect_equal(batch.plan.mix_features(images), images, "with prob=0 feature maps are changed")
    one_hot = torch.zeros(case.batch, 10, device=case.device).scatter_(1, labels.view(-1, 1), 1.0)
    expect_close(batch.targets.dense(10), one_hot, "with prob=0 labels are changed", atol=0.0)


@promise("prob is applied once: to the batch, or to each sample with per_sample", once=True)
def prob_once(case: Case) -> None:
    """Compare how often samples change with prob=0.3 and with prob=1.

    A mixed sample may be unchanged (an empty box): that rate is measured with prob=1, and with
    prob=0.3 samples must change 0.3 times as often. A coin tossed twice gives 0.09.
    """
    size = _small_size(case)
    if case.per_sample:
        # Each costs a pass of a network, or more pixels.
        few = "model" in case.method().needs or size != SMALL
        first = total = 1000 if few else 6000
        count = _changed_samples
    else:
        first, total = 150, 200 if "model" in case.method().needs else 500
        count = _changed_batches
    hits = count(case, first, 1.0, size, seed=1)
    if hits == 0:
        return  # `none`
    full = hits / first
    expect(full > 0.05, f"with prob=1 only {full:.1%} of noise images are changed")
    if not case.per_sample:
        # The fewer mix with prob=1, the more it takes to tell 0.3 of them from 0.09.
        total = min(total, round(350 / full))
    # Samples of one batch share what is drawn for all of them: that must be the same again.
    rate = count(case, total, PROB, size, seed=1 if case.per_sample else 2) / total
    expected = PROB * full
    variance = expected * (1 - expected) / total + PROB**2 * full * (1 - full) / first
    expect(
        abs(rate - expected) < SIGMAS * variance**0.5,
        f"with prob={PROB} a share of {rate:.3f} is changed, expected {expected:.3f} "
        f"({PROB} x {full:.3f})",
    )


def _small_size(case: Case) -> tuple[int, int]:
    """Return `SMALL`, as many batches are drawn, or the case's size if the method refuses it."""
    try:
        case.sample(case.noise(case.batch, 1, *SMALL))
    except ValueError:
        return case.size
    return SMALL


def _changed_samples(case: Case, total: int, prob: float, size: tuple[int, int], seed: int) -> int:
    images = torch.rand(total, 1, *size, generator=torch.Generator().manual_seed(0))
    images = images.to(case.device)
    plan = case.sample(images, seed=seed, prob=prob, pairing="derange")
    return int(_differs(pixels_of(plan, images), images).sum())


def _changed_batches(case: Case, total: int, prob: float, size: tuple[int, int], seed: int) -> int:
    images = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(0)).to(case.device)
    mix = case.method(prob=prob, pairing="derange")
    given = {"images": images, "labels": case.labels(batch=3), **case.given(mix, images)}
    # By what a network says, a method may leave one image as it is and mix another (PuzzleMix).
    whole = not _has_parts_per_sample(mix) and "model" not in mix.needs
    generator, hits = case.generator(seed), 0
    for _ in range(total):
        plan = mix.sample(images.shape, device=case.device, generator=generator, **given)
        differs = _differs(pixels_of(plan, images), images)
        expect(
            not whole or bool(differs.all()) or not bool(differs.any()),
            "without per_sample a part of the batch was mixed and a part was not",
        )
        hits += bool(differs.any())
    return hits


def _differs(mixed: Tensor, images: Tensor) -> Tensor:
    return (mixed != images).flatten(1).any(dim=1)


@promise(
    "one draw serves the batch, or each sample has its own with per_sample",
    once=True,
    chosen_by_images=False,
)
def one_draw_or_many(case: Case) -> None:
    """Mix one-hot images with "roll": rolled back by b, the channels of all b are equal."""
    if not case.per_sample and _has_parts_per_sample(case.method()):
        return
    batch = 8
    eye = torch.eye(batch, device=case.device)
    images = eye.view(batch, batch, 1, 1).repeat(1, 1, *case.size)
    most = 0
    for seed in range(10):
        plan = case.sample(images, seed=seed, pairing="roll")
        mixed = pixels_of(plan, images)
        pictures = torch.stack([mixed[row].roll(-row, dims=0) for row in range(batch)])
        if case.per_sample:
            apart = pictures.flatten(1).mul(1e4).round()
            most = max(most, len({tuple(picture.tolist()) for picture in apart}))
        else:
            expect_close(
                pictures, pictures[:1].expand_as(pictures), "samples of a batch are cut differently"
            )
    if case.per_sample and not torch.equal(mixed, images):
        expect(most > batch // 2, f"8 samples show only {most} different pictures")


def _has_parts_per_sample(method: Method) -> bool:
    """Tell whether a method in `method` draws per sample by its own parameters."""
    parts = getattr(method, "methods", ())
    return any(part.per_sample or _has_parts_per_sample(part) for part in parts)
