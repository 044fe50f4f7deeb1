"""Losses of mixed targets are the weighted sums of the losses of their labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Targets
from mixbench.augmentations.plans.blend import Blend
from tests.support.oracles import DEVICES, seeded

CLASSES = 6
IGNORED = -100

each_device = pytest.mark.parametrize("device", DEVICES)
each_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
each_parts = pytest.mark.parametrize("parts", [1, 2, 4])
with_ignored = pytest.mark.parametrize("ignored", [0.0, 0.3], ids=["all labelled", "some ignored"])
with_class_weights = pytest.mark.parametrize("classed", [False, True], ids=["plain", "classed"])


def drawn(parts: int, ignored: float, batch: int = 9, device: str = "cpu") -> Targets:
    generator = seeded(parts)
    labels = torch.randint(0, CLASSES, (batch, parts), generator=generator)
    labels[torch.rand(batch, parts, generator=generator) < ignored] = IGNORED
    weights = torch.rand(batch, parts, generator=generator)
    return Targets(labels.to(device), (weights / weights.sum(1, keepdim=True)).to(device))


def scores(batch: int = 9, device: str = "cpu") -> Tensor:
    return (torch.randn(batch, CLASSES, generator=seeded(7)) * 3).to(device)


def some_class_weights(device: str = "cpu") -> Tensor:
    return torch.tensor([0.2, 1.0, 3.0, 0.0, 0.5, 2.0], device=device)


def value_and_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), gradient


def assert_same_loss(
    one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], logits: Tensor
) -> None:
    pairs = zip(value_and_gradient(one, logits), value_and_gradient(other, logits), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)


@each_device
@each_parts
@each_smoothing
@with_ignored
@with_class_weights
def test_cross_entropy_is_the_weighted_sum_of_index_losses(
    device: str, parts: int, smoothing: float, ignored: float, classed: bool
) -> None:
    targets, logits = drawn(parts, ignored, device=device), scores(device=device)
    weight = some_class_weights(device) if classed else None

    def by_index(logits: Tensor) -> Tensor:
        return sum(  # type: ignore[return-value]
            targets.weights[:, part]
            * F.cross_entropy(
                logits,
                targets.labels[:, part],
                weight=weight,
                label_smoothing=smoothing,
                reduction="none",
            )
            for part in range(parts)
        )

    # What torch's mean divides by, one label at a time: its class weight; nothing when ignored.
    counted = 0.0
    for labels, shares in zip(targets.labels.tolist(), targets.weights.tolist(), strict=True):
        for label, share in zip(labels, shares, strict=True):
            if label != IGNORED:
                counted += share * (1.0 if weight is None else float(weight[label]))

    reduced: dict[str, Callable[[Tensor], Tensor]] = {
        "none": by_index,
        "sum": lambda logits: by_index(logits).sum(),
        "mean": lambda logits: by_index(logits).sum() / counted,
    }
    for reduction, expected in reduced.items():
        assert_same_loss(
            lambda logits, reduction=reduction: targets.cross_entropy(  # type: ignore[misc]
                logits, smoothing, reduction, weight
            ),
            expected,
            logits,
        )


@each_smoothing
@with_ignored
@with_class_weights
@pytest.mark.parametrize("name", ["none", "mixup", "cutmix", "fmix"])
def test_one_strength_for_the_batch_gives_the_usual_formula(
    name: str, smoothing: float, ignored: float, classed: bool
) -> None:
    """λ criterion(logits, y) + (1 - λ) criterion(logits, y[partner]), with torch's own means."""
    labels = drawn(1, ignored).labels[:, 0]
    weight = some_class_weights() if classed else None
    mix = augmentations.create(name, pairing="permute")
    plan = mix.sample((9, 1, 8, 8), generator=seeded(3))
    targets, logits = plan.mix_labels(labels, num_classes=CLASSES), scores()
    lam = float(plan.own_share()[0]) if name == "none" else float(targets.weights[0, 0])

    def usual(logits: Tensor) -> Tensor:
        criterion = torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)
        loss = lam * criterion(logits, labels)
        if name != "none":
            loss = loss + (1 - lam) * criterion(logits, targets.labels[:, 1])
        return loss

    assert_same_loss(
        lambda logits: targets.cross_entropy(logits, smoothing, class_weights=weight), usual, logits
    )


@each_smoothing
@with_class_weights
def test_unmixed_labels_have_torchs_loss_also_when_all_are_ignored(
    smoothing: float, classed: bool
) -> None:
    logits, weight = scores(4), some_class_weights() if classed else None
    for labels in ([0, 1, 5, 2], [0, IGNORED, 5, IGNORED], [IGNORED] * 4):
        hard = torch.tensor(labels)
        targets = Targets(hard.unsqueeze(1), torch.ones(4, 1))
        for reduction in ("mean", "sum", "none"):
            found = targets.cross_entropy(logits, smoothing, reduction, weight)
            expected = F.cross_entropy(
                logits, hard, weight=weight, label_smoothing=smoothing, reduction=reduction
            )
            torch.testing.assert_close(found, expected, equal_nan=True)
    assert math.isnan(float(targets.cross_entropy(logits)))


def test_the_mean_over_labelled_samples_is_that_of_the_batch_bit_for_bit() -> None:
    """Weights whose sum is 1 but for rounding must not move a loss that has no ignored label."""
    for seed in range(20):
        weights = torch.rand(37, 2, generator=seeded(seed))
        targets = Targets(torch.randint(0, CLASSES, (37, 2), generator=seeded(seed)), weights)
        logits = torch.randn(37, CLASSES, generator=seeded(100 + seed))
        each = targets.cross_entropy(logits, 0.1, reduction="none")
        assert torch.equal(targets.cross_entropy(logits, 0.1), each.mean())


def test_an_ignored_label_gives_its_weight_to_no_class() -> None:
    labels = torch.tensor([[IGNORED, 2], [1, IGNORED], [IGNORED, IGNORED], [0, 0]])
    targets = Targets(labels, torch.tensor([[0.3, 0.7], [0.4, 0.6], [0.5, 0.5], [0.25, 0.75]]))
    expected = torch.zeros(4, CLASSES)
    expected[0, 2], expected[1, 1], expected[3, 0] = 0.7, 0.4, 1.0
    torch.testing.assert_close(targets.dense(CLASSES), expected)
    for smoothing in (0.0, 0.2):
        _, gradient = value_and_gradient(
            lambda logits, smoothing=smoothing: targets.cross_entropy(logits, smoothing),  # type: ignore[misc]
            scores(4),
        )
        assert bool((gradient[2] == 0).all())
        assert bool((gradient[[0, 1, 3]] != 0).all())
    # Even where class 0, which stands in for the ignored one, has probability 0.
    logits = scores(4)
    logits[:3, 0] = -torch.inf
    assert bool(targets.cross_entropy(logits, reduction="none").isfinite().all())


def test_cross_entropy_by_hand() -> None:
    """Two classes at equal odds: every index loss is ln 2, so weights alone make the mean."""
    targets = Targets(
        torch.tensor([[0, 1], [1, IGNORED]]), torch.tensor([[0.25, 0.75], [0.4, 0.6]])
    )
    logits, weight, ln2 = torch.zeros(2, 2), torch.tensor([1.0, 3.0]), math.log(2)
    assert float(targets.cross_entropy(logits)) == pytest.approx(ln2)
    found = targets.cross_entropy(logits, reduction="none", class_weights=weight)
    assert found.tolist() == pytest.approx([2.5 * ln2, 1.2 * ln2])
    assert float(targets.cross_entropy(logits, class_weights=weight)) == pytest.approx(ln2)
    # Odds 1 : 3: losses ln 4 and ln 4/3.
    logits = torch.tensor([[1.0, 3.0], [1.0, 3.0]]).log()
    first = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    second = 0.4 * math.log(4 / 3)
    assert float(targets.cross_entropy(logits)) == pytest.approx((first + second) / 1.4)


@with_class_weights
@each_smoothing
def test_soft_labels_are_weighted_sums_too(classed: bool, smoothing: float) -> None:
    soft = torch.rand(9, CLASSES, generator=seeded(1)).softmax(dim=1)
    plan = augmentations.create("mixup", per_sample=True).sample((9, 1, 4, 4), generator=seeded(2))
    targets, logits = plan.mix_labels(soft, CLASSES), scores()
    mixed = torch.stack([targets.weights[row] for row in range(9)])
    assert targets.labels.tolist() == [list(range(CLASSES))] * 9
    weight = some_class_weights() if classed else None

    def by_class(logits: Tensor) -> Tensor:
        every = torch.stack(
            [
                F.cross_entropy(
                    logits,
                    torch.full((9,), label),
                    weight=weight,
                    label_smoothing=smoothing,
                    reduction="none",
                )
                for label in range(CLASSES)
            ],
            dim=1,
        )
        counted = mixed if weight is None else mixed * weight
        return (mixed * every).sum() / counted.sum()

    assert_same_loss(
        lambda logits: targets.cross_entropy(logits, smoothing, class_weights=weight),
        by_class,
        logits,
    )


# --- multi-label --------------------------------------------------------------------------------


@each_device
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "pos_weight"])
@pytest.mark.parametrize("name", ["mixup", "cutmix", "ricap"])
def test_multi_label_loss_is_the_weighted_sum_of_the_sources_losses(
    name: str, weighted: bool, device: str
) -> None:
    multi = (torch.rand(9, CLASSES, generator=seeded(1)) < 0.4).float().to(device)
    plan = augmentations.create(name, per_sample=True).sample(
        (9, 1, 8, 8), device=device, generator=seeded(2, device)
    )
    targets, logits = plan.mix_labels(multi, CLASSES), scores(device=device)
    pos_weight = some_class_weights(device) if weighted else None
    index, share = plan.sources()

    def by_source(logits: Tensor) -> Tensor:
        return sum(  # type: ignore[return-value]
            share[:, part, None]
            * F.binary_cross_entropy_with_logits(
                logits, multi[index[:, part]], pos_weight=pos_weight, reduction="none"
            )
            for part in range(index.shape[1])
        )

    for reduction in ("none", "sum", "mean"):
        assert_same_loss(
            lambda logits, reduction=reduction: targets.binary_cross_entropy(  # type: ignore[misc]
                logits, reduction, pos_weight
            ),
            lambda logits, reduction=reduction: {  # type: ignore[misc]
                "none": lambda each: each,
                "sum": torch.sum,
                "mean": torch.mean,
            }[reduction](by_source(logits)),
            logits,
        )


def test_index_labels_have_the_binary_loss_of_their_one_hot_rows_and_ignored_ones_none() -> None:
    targets, logits = drawn(2, 0.3), scores()
    weight = some_class_weights()
    assert bool((targets.labels == IGNORED).any())

    def by_label(logits: Tensor) -> Tensor:
        total, counted = logits.new_zeros(()), 0.0
        for row in range(9):
            for part in range(2):
                label, share = int(targets.labels[row, part]), targets.weights[row, part]
                if label != IGNORED:
                    one_hot = F.one_hot(torch.tensor(label), CLASSES).float()
                    total = total + share * F.binary_cross_entropy_with_logits(
                        logits[row], one_hot, pos_weight=weight, reduction="sum"
                    )
                    counted += float(share)
        return total / (counted * CLASSES)

    assert_same_loss(
        lambda logits: targets.binary_cross_entropy(logits, pos_weight=weight), by_label, logits
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.0, 0.2])
def test_the_binary_loss_is_timms_of_timms_mixed_labels(
    smoothing: float, threshold: float | None
) -> None:
    from timm.data.mixup import mixup_target
    from timm.loss import BinaryCrossEntropy  # type: ignore[attr-defined]

    # timm mixes with the batch in reverse, and with one weight for all.
    labels, kept = torch.tensor([0, 5, 2, 2]), 0.85
    mixed = torch.tensor([[kept, 1 - kept]]).expand(4, 2)
    targets = Targets(torch.stack([labels, labels.flip(0)], dim=1), mixed)
    theirs = mixup_target(labels, CLASSES, kept, smoothing)
    assert_same_loss(
        lambda logits: targets.binary_cross_entropy(
            logits, label_smoothing=smoothing, threshold=threshold
        ),
        lambda logits: BinaryCrossEntropy(smoothing, threshold)(logits, theirs),
        scores(4),
    )


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_class_weights_weigh_the_binary_losses_of_the_labels(threshold: float | None) -> None:
    targets, logits, weight = drawn(2, 0.0), scores(), some_class_weights()

    def by_label(logits: Tensor) -> Tensor:
        parts = []
        for k in range(2):
            present = F.one_hot(targets.labels[:, k], CLASSES).float()
            if threshold is not None:
                present = (0.9 * targets.dense(CLASSES) + 0.1 / CLASSES > threshold).float()
            else:
                present = 0.9 * present + 0.1 / CLASSES
            loss = F.binary_cross_entropy_with_logits(logits, present, reduction="none")
            parts.append(loss * (targets.weights[:, k] * weight[targets.labels[:, k]])[:, None])
        return sum(parts)  # type: ignore[return-value]

    total = (targets.weights * weight[targets.labels]).sum()
    for reduction, divided in (("none", None), ("mean", total * CLASSES)):
        assert_same_loss(
            lambda logits, reduction=reduction: targets.binary_cross_entropy(  # type: ignore[misc]
                logits,
                reduction,
                label_smoothing=0.1,
                threshold=threshold,
                class_weights=weight,
            ),
            lambda logits, divided=divided: (  # type: ignore[misc]
                by_label(logits) if divided is None else by_label(logits).sum() / divided
            ),
            logits,
        )


def test_multi_label_targets_by_hand() -> None:
    """A (cat, dog) and a (dog) at 1/4 and 3/4: a quarter of a cat and a whole dog."""
    plan = augmentations.Blend(torch.tensor([0.25, 1.0]).view(2, 1, 1, 1), torch.tensor([1, 0]))
    targets = plan.mix_labels(torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), num_classes=3)
    assert targets.dense(3).tolist() == [[0.25, 1.0, 0.0], [0.0, 1.0, 0.0]]
    extreme = torch.tensor([[200.0, -200.0, 0.0], [0.0, 0.0, 0.0]])
    found = targets.binary_cross_entropy(extreme, reduction="none")
    ln2 = math.log(2)
    assert found.tolist() == [pytest.approx([150.0, 200.0, ln2]), pytest.approx([ln2] * 3)]


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"logits": torch.zeros(3, 6)},
            r"logits: expected \(2, num_classes\) on cpu, got \(3, 6\)",
        ),
        ({"logits": torch.zeros(2, 6, 1)}, r"logits: expected .* got \(2, 6, 1\)"),
        ({"logits": torch.zeros(2, 6, device="meta")}, r"logits: expected .* on cpu, got .* meta"),
        (
            {"class_weights": torch.ones(5)},
            r"class_weights: expected \(6,\) on cpu, got \(5,\) on cpu",
        ),
        ({"class_weights": torch.ones(6, device="meta")}, r"class_weights: expected .* on meta"),
        ({"reduction": "max"}, r"reduction: got 'max', expected mean, sum or none"),
    ],
)
def test_a_loss_names_what_it_cannot_take(arguments: dict[str, Any], message: str) -> None:
    targets = Targets(torch.tensor([[1], [0]]), torch.ones(2, 1))
    with pytest.raises(ValueError, match=message):
        targets.cross_entropy(**{"logits": torch.zeros(2, 6), **arguments})


def test_ignored_labels_are_taken_and_other_negative_ones_are_not() -> None:
    plan = augmentations.create("cutmix").sample((3, 1, 8, 8), generator=seeded(0))
    targets = plan.mix_labels(torch.tensor([0, IGNORED, 5]), num_classes=CLASSES)
    assert int((targets.labels == IGNORED).sum()) == 2
    torch.testing.assert_close(targets.weights.sum(1), torch.ones(3))
    for wrong, num_classes in (([0, -1, 5], None), ([0, 6, IGNORED], 6), ([-101, 1, 2], 6)):
        with pytest.raises(
            ValueError, match=r"labels: expected classes from 0 .* -100 \(ignored\)"
        ):
            plan.mix_labels(torch.tensor(wrong), num_classes)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_weight_that_is_learned_gets_its_gradient_from_the_labels(rows: int) -> None:
    keep = torch.full((rows, 1, 1, 1), 0.3, requires_grad=True)
    plan = Blend(keep, torch.tensor([1, 2, 0])).expand(3)
    logits = torch.randn(3, 4, generator=seeded(0))
    labels = torch.tensor([0, 1, 3])
    plan.mix_labels(labels, 4).cross_entropy(logits).backward()
    each = F.cross_entropy(logits, labels, reduction="none")
    other = F.cross_entropy(logits, labels[[1, 2, 0]], reduction="none")
    slope = (each - other) / 3
    expected = slope.sum().reshape(1) if rows == 1 else slope
    assert keep.grad is not None
    torch.testing.assert_close(keep.grad.flatten(), expected)
