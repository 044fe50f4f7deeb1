"""ClassMix and Copy-Paste: pixels by the authors' formulas on the same draws; boxes, masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.plans.serialise import from_tensors, to_tensors
from tests.support.oracles import located_images, seeded

BATCH, SIDE = 6, 12
SHAPE = (BATCH, 3, SIDE, SIDE)


def masks() -> Tensor:
    """Seven values in blocks, 0 and the ignored 255 among them; the last image has one alone."""
    values = torch.tensor([0, 255, 3, 4, 90, 200, 254])
    blocks = torch.randint(0, 7, (BATCH, 4, 4), generator=seeded(7))
    found = values[blocks].repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    found[-1] = 4
    return found


def drawn(name: str, given: Tensor | None = None, **parameters: Any) -> tuple[Any, Tensor]:
    """A plan with the next sample as partner, and the numbers from which values were chosen."""
    mix = augmentations.create(name, pairing="roll", **parameters)
    plan = mix.sample(SHAPE, generator=seeded(1), masks=masks() if given is None else given)
    return plan, torch.rand((BATCH, 256), dtype=torch.float64, generator=seeded(1))


@pytest.mark.parametrize("background", [True, False])
def test_classmix_pastes_half_of_the_classes(background: bool) -> None:
    plan, order = drawn("classmix", background=background)
    images, given = located_images(BATCH, SIDE, SIDE), masks()
    mixed, targets = plan.mix_images(images), plan.mix_labels(torch.arange(BATCH), BATCH)
    for sample in range(BATCH):
        other = (sample + 1) % BATCH
        classes = torch.unique(given[other])
        classes = classes[classes != 255]
        if not background:
            classes = classes[classes != 0]
        half = (len(classes) - len(classes) % 2) // 2
        half = half if background else max(half, 1)
        best = classes[order[sample][classes].argsort(descending=True)[:half]]
        mask = given[other].eq(best.view(-1, 1, 1)).sum(dim=0)  # the authors' class mask
        assert torch.equal(mixed[sample], mask * images[other] + (1 - mask) * images[sample])
        share = mask.float().mean().item()
        assert targets.weights[sample].tolist() == pytest.approx([1 - share, share])
        seen = torch.where(mask == 1, given[other], given[sample])
        assert torch.equal(plan.mix_masks(given)[sample], seen)
    # Its only class is half of one, rounded down.
    assert bool((plan.keep[-2] == 1).all()) == background


def test_copy_paste_draws_each_object_and_at_least_one() -> None:
    images, given = located_images(BATCH, SIDE, SIDE), masks()
    for share in (0.0, 0.4, 1.0):
        plan, order = drawn("copy_paste", share=share)
        mixed = plan.mix_images(images)
        for sample in range(BATCH):
            other = (sample + 1) % BATCH
            objects = [int(one) for one in torch.unique(given[other]) if one not in (0, 255)]
            first = min(objects, key=lambda one, at=sample: float(order[at, one]))
            chosen = [one for one in objects if order[sample, one] < share or one == first]
            mask = torch.isin(given[other], torch.tensor(chosen))
            expected = torch.where(mask, images[other], images[sample])
            assert torch.equal(mixed[sample], expected)
    nothing, _ = drawn("copy_paste", torch.zeros_like(given))
    assert torch.equal(nothing.mix_images(images), images)


def test_zoom_enlarges_images_and_masks_alike() -> None:
    """What is pasted is where the enlarged mask is, whose pixels are those of the images."""
    given = (masks() == 4).long()
    images = given.unsqueeze(1).float() * 9 + torch.arange(BATCH).view(-1, 1, 1, 1) / 10
    mix = augmentations.create("copy_paste", zoom=3, pairing="roll", labels="objects")
    plan = mix.sample(images.shape, generator=seeded(3), images=images, masks=given)
    zoom, overlay = plan.stages
    large = zoom.mix_masks(given)
    for sample in range(BATCH):
        other = (sample + 1) % BATCH
        assert torch.equal(overlay.keep[sample, 0] == 0, large[other] == 1)
        top, left, bottom, right = zoom.source[sample, 0].tolist()
        assert 4 <= bottom - top <= 12 and 4 <= right - left <= 12
        assert int(zoom.partner[sample, 0]) == sample
    assert zoom.mix_labels(torch.arange(BATCH), BATCH).weights.tolist() == [[1.0]] * BATCH
    assert not torch.equal(large, given)


def test_boxes_of_objects_are_seen_or_hidden() -> None:
    """Two objects an image; the pasted one hides half of one, and the other is not brought."""
    maps = torch.zeros(2, 8, 8, dtype=torch.int64)
    maps[0, 0:4, 0:4], maps[0, 6:8, 6:8] = 1, 2
    maps[1, 0:4, 2:6] = 5
    instances = [(maps[0] == 1), (maps[0] == 2), (maps[1] == 5)]
    boxes = torch.tensor([[0.0, 0, 4, 4], [6, 6, 8, 8], [2, 0, 6, 4]])
    targets = [
        {
            "boxes": boxes[rows],
            "labels": torch.arange(3)[rows],
            "masks": torch.stack(instances[rows]),
        }
        for rows in (slice(0, 2), slice(2, 3))
    ]
    mix = augmentations.create("copy_paste", share=0, pairing="roll")
    generators = (seeded(number) for number in range(50))
    plans = (mix.sample((2, 3, 8, 8), generator=one, masks=maps) for one in generators)
    # The second image gets the first's large object, not its small one.
    plan = next(one for one in plans if one.keep[1, 0, 0, 0] == 0)
    plan = from_tensors(to_tensors(plan))
    first, second = plan.mix_boxes(targets)
    assert first["labels"].tolist() == [0, 1, 2] and first["weights"].tolist() == [1, 1, 1]
    assert first["masks"].sum(dim=(1, 2)).tolist() == [8, 4, 16]
    assert second["labels"].tolist() == [2, 0] and second["weights"].tolist() == [1, 1]
    assert second["masks"].sum(dim=(1, 2)).tolist() == [8, 16]
    # All of the object is seen, and nothing of what it hides.
    (alone,) = plan.mix_boxes(targets, visibility=0.6)[1:]
    assert alone["labels"].tolist() == [0]


@pytest.mark.parametrize("name", ["classmix", "copy_paste"])
def test_masks_of_a_wrong_kind_are_refused(name: str) -> None:
    mix = augmentations.create(name)
    for wrong, message in (
        (None, f"{name}: expected masks=, as what it draws depends on them, got None"),
        (masks()[:, :4], rf"{name}: expected masks \(6, 12, 12\) of whole .*, got \(6, 4, 12\)"),
        (masks().float(), rf"{name}: expected masks .*, got \(6, 12, 12\) float32"),
        (masks() + 1, rf"{name}: expected masks with values from 0 to 255, got 1 to 256"),
    ):
        with pytest.raises(ValueError, match=message):
            mix.sample(SHAPE, masks=wrong)
