"""Check that plans are legal, replayable, and the same decision for masks and features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from mixbench.augmentations.contract.case import Case, pixels_of
from mixbench.augmentations.contract.promise import expect, expect_close, expect_equal, promise
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.composite import stages_of
from mixbench.augmentations.plans.paste import Paste


@promise("the plan is legal: weights in [0, 1], partners in the batch, rectangles in the image")
def legal(case: Case) -> None:
    images = case.images()
    plan = case.sample(images)
    expect(plan.batch == case.batch, f"the plan is for {plan.batch} samples of {case.batch}")
    for part in _parts(plan):
        if isinstance(part, Blend):
            _legal_blend(part, case)
        elif isinstance(part, Paste):
            _legal_paste(part, case)
    index, _ = plan.sources()
    # Those of an earlier batch come behind those of this one.
    known = case.batch * (2 if "bank" in case.method().needs else 1)
    expect(
        bool(((index >= 0) & (index < known)).all()),
        f"a source is sample {int(index.max())} of a batch of {case.batch}",
    )


def _parts(plan: Plan) -> Iterator[Plan]:
    """Yield the plan and those it is made of."""
    yield plan
    if is_dataclass(plan):
        for field in fields(plan):
            value = getattr(plan, field.name)
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, Plan):
                    yield from _parts(inner)


def _legal_blend(plan: Blend, case: Case) -> None:
    keep = plan.keep
    expect(keep.dtype == torch.float32, f"`keep` is {keep.dtype}, expected float32")
    shapes = ((case.batch, 1, 1, 1), (case.batch, 1, *case.size))
    expect(tuple(keep.shape) in shapes, f"`keep` is {tuple(keep.shape)}, expected one of {shapes}")
    expect(
        bool(((keep >= 0) & (keep <= 1)).all()),
        f"`keep` goes from {float(keep.min()):.4g} to {float(keep.max()):.4g}",
    )


def _legal_paste(plan: Paste, case: Case) -> None:
    expect(tuple(plan.size) == case.size, f"the plan is for images of {tuple(plan.size)}")
    target = plan.target
    _inside("target", target, case)
    if plan.source is not None:
        _inside("source", plan.source, case)
        if not plan.resize:
            expect_equal(_sides(plan.source), _sides(target), "a source has another size")
    rectangles = target.shape[1]
    for one in range(rectangles):
        for other in range(one):
            top, left = torch.maximum(target[:, one, :2], target[:, other, :2]).unbind(-1)
            bottom, right = torch.minimum(target[:, one, 2:], target[:, other, 2:]).unbind(-1)
            overlap = (bottom - top).clamp(min=0) * (right - left).clamp(min=0)
            # An empty rectangle overlaps nothing, wherever its corner is.
            empty = (_sides(target[:, [one, other]]) == 0).flatten(1).any(dim=1)
            expect(
                bool((empty | (overlap == 0)).all()),
                f"rectangles {other} and {one} of a sample overlap",
            )
    if plan.tiles:
        total = _sides(target).prod(dim=-1).sum(dim=1)
        expect(
            bool((total == case.size[0] * case.size[1]).all()),
            f"the tiles cover {int(total.min())} of {case.size[0] * case.size[1]} pixels",
        )


def _sides(boxes: Tensor) -> Tensor:
    return boxes[..., 2:] - boxes[..., :2]


def _inside(name: str, boxes: Tensor, case: Case) -> None:
    limit = boxes.new_tensor([*case.size, *case.size])
    wrong = (boxes < 0) | (boxes > limit) | (boxes[..., [2, 3, 2, 3]] < boxes)
    if bool(wrong.any()):
        row = boxes.flatten(0, 1)[int(wrong.flatten(0, 1).any(dim=1).long().argmax())].tolist()
        expect(
            False,
            f"a {name} rectangle has rows {row[0]} to {row[2]} and columns {row[1]} to {row[3]} "
            f"on images of {case.size[0]} rows and {case.size[1]} columns: are height and width "
            "swapped?",
        )


@promise("a plan replays: the same plan gives the same batch again")
def replays(case: Case) -> None:
    images, labels = case.images(), case.labels()
    batch = case.mix(images, labels)
    plan = case.sample(images)
    for replayed in (batch.plan, batch.plan, plan):
        expect_equal(replayed.mix_images(images), batch.images, "a second mix gave other images")
        targets = replayed.mix_labels(labels, 10)
        expect_equal(targets.labels, batch.targets.labels, "a second mix gave other labels")
        expect_equal(targets.weights, batch.targets.weights, "a second mix gave other weights")
    expect_equal(pixels_of(plan, images), pixels_of(plan, images), "the plan draws when it mixes")


@promise("a plan for a deeper layer leaves the images as they are")
def deep_plans_leave_images(case: Case) -> None:
    images = case.images()
    for seed in range(6):
        for stage in stages_of(case.sample(images, seed=seed)):
            if stage.depth > 0:
                sentence = f"a plan of depth {stage.depth}: images"
                expect_equal(stage.mix_images(images), images, sentence)


@promise(
    "a class mask takes each pixel from the image that is shown there", label_rules=("pixels",)
)
def masks_follow_pixels(case: Case) -> None:
    images = case.one_hot_images()
    plan = case.sample(images)
    shares = pixels_of(plan, images)
    for dtype in (torch.int64, torch.uint8, torch.int32):
        masks = torch.arange(case.batch, device=case.device).to(dtype)
        masks = masks.view(-1, 1, 1).repeat(1, *case.size)
        before = masks.clone()
        mixed = plan.mix_masks(masks)
        wanted = shares.argmax(dim=1)
        if mixed.shape == wanted.shape:
            # Of two images with half of a pixel each either will do.
            shown = mixed.long().clamp(0, case.batch - 1)
            half = shares.gather(1, shown.unsqueeze(1)).squeeze(1) == 0.5
            wanted = torch.where(half, shown, wanted)
        expect_equal(
            mixed,
            wanted.to(dtype),
            "a mask's class is not that of the image with the largest share of the pixel",
        )
        expect_equal(masks, before, "the masks given were changed in place")
        stacked = plan.mix_masks(masks.unsqueeze(1).repeat(1, 2, 1, 1))
        expect_equal(
            stacked, mixed.unsqueeze(1).repeat(1, 2, 1, 1), "(B, C, H, W) masks mix differently"
        )
        finer = plan.mix_masks(masks.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2))
        expect_equal(
            finer,
            mixed.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2),
            "masks of twice the resolution mix differently",
        )


@promise(
    "floating-point masks, and features of the image's size, mix as images do",
    label_rules=("pixels", "declared"),
)
def maps_mix_as_images(case: Case) -> None:
    images = case.images()
    plan = case.sample(images)
    if not plan.is_linear:
        return  # moments are exchanged, which leaves masks as they are
    if "bank" in case.method().needs:
        return  # of an earlier batch there are images alone
    mixed = pixels_of(plan, images)
    blanks = any(isinstance(part, (Blend, Paste)) and part.partner is None for part in _parts(plan))
    if not blanks:  # masks are not blanked, as labels are not
        expect_equal(plan.mix_masks(images), mixed, "masks")
    expect_equal(plan.mix_features(images), mixed, "features")
    deep = images.contiguous().unsqueeze(2).repeat(1, 1, 4, 1, 1)
    expect_equal(
        plan.mix_features(deep),
        mixed.contiguous().unsqueeze(2).repeat(1, 1, 4, 1, 1),
        "features (B, C, D, H, W)",
    )


@promise("features at another resolution keep the shares", label_rules=("pixels",))
def features_keep_shares(case: Case) -> None:
    images = case.one_hot_images((16, 48))
    plan = case.sample(images)
    shown = pixels_of(plan, images).double().mean(dim=(2, 3))
    for size in ((4, 12), (8, 24), (5, 7), (1, 1), (32, 96)):
        mixed = plan.mix_features(case.one_hot_images(size))
        expect_close(
            mixed.sum(dim=1),
            torch.ones_like(mixed[:, 0]),
            f"at {size[0]} x {size[1]} a cell is left empty, or filled twice",
            atol=1e-5,
        )
        # Edges are rounded. A cut down and a cut across (RICAP) each move the shares of all
        # sources by less than one cell of that side.
        bound = 1 / size[0] + 1 / size[1]
        worst = float((mixed.double().mean(dim=(2, 3)) - shown).abs().max())
        expect(
            worst <= bound + 1e-6,
            f"at {size[0]} x {size[1]} a share differs by {worst:.3f}, more than {bound:.3f}",
        )


@promise("feature vectors are mixed with the label weights")
def vectors_follow_weights(case: Case) -> None:
    if "bank" in case.method().needs:
        return  # of an earlier batch there are images alone
    plan = case.sample(case.images())
    samples = torch.arange(case.batch, device=case.device)
    mixed = plan.mix_features(torch.eye(case.batch, device=case.device, dtype=case.dtype))
    expect_equal(
        mixed,
        plan.mix_labels(samples, case.batch).dense(case.batch).to(case.dtype),
        "vectors are not mixed with the label weights",
    )
