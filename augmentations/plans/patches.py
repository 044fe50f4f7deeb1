"""What a plan shows of which image: patches, each with its place, its region and its weight.

`Paste` and `Blend` describe themselves as patches, and fragments.py follows boxes through them.
Everything here is on the host, in NumPy: boxes are few, and their number decides shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

NEGLIGIBLE = 1e-6
"""A share that is due to rounding."""
WHOLE = (-np.inf, -np.inf, np.inf, np.inf)
"""The region of a patch that clips nothing."""
IN_PLACE = (1.0, 1.0, 0.0, 0.0)
"""The place of a patch that does not move."""


@dataclass(frozen=True)
class Patches:
    """P patches of the images of a batch, sorted by the sample that shows them.

    Attributes:
        size: Height and width of the images in pixels; None where it does not matter.
        sample: (P,), the mixed sample that shows the patch.
        source: (P,), the sample that it is a patch of.
        place: (P, 4), where in the mixed image a point of the source is: the factors of x and y,
            then what is added to them, in pixels.
        region: (P, 4), x1, y1, x2, y2 in the mixed image, in pixels.
        weight: (P,), how much of each pixel the patch is, from 0 to 1.
        mask: (P,), the index in `masks` of a further weight per pixel; -1 for none.
        rest: (P,) bool, whether that weight is 1 - mask.
        order: (P,), patches of equal order in a sample show the same image at the same place.
        over: (P,) bool, whether the patch may lie over another one of its sample.
        masks: Masks (H, W), from 0 to 1.
        mask_weighs: Whether the masks count as weights of labels; otherwise they only hide.
    """

    size: tuple[int, int] | None
    sample: Integers
    source: Integers
    place: Floats
    region: Floats
    weight: Floats
    mask: Integers
    rest: Flags
    order: Integers
    over: Flags
    masks: tuple[Mask, ...] = ()
    mask_weighs: bool = True


def paste_patches(
    size: tuple[int, int], target: Tensor, partner: Tensor | None, source: Tensor | None
) -> Patches:
    """Describe a `Paste` plan; arguments as its fields.

    Rectangles that change nothing (a sample pasted onto itself) must be empty.
    """
    into = _xyxy(target)
    batch, count, _ = into.shape
    shown = _area(into) > 0
    changed: Flags = np.logical_or.reduce(shown, axis=1)
    # Samples that share a row are cut up once.
    distinct, which = np.unique(into.reshape(batch, -1), axis=0, return_inverse=True)
    owner, left = uncovered(distinct.reshape(len(distinct), count, 4), size)
    pieces = np.bincount(owner, minlength=len(distinct))
    start = np.cumsum(pieces) - pieces
    which = np.where(changed, which.reshape(-1), -1)
    number = np.where(changed, pieces[which], 1)
    own = np.repeat(np.arange(batch), number)
    at = np.arange(len(own)) - np.repeat(np.cumsum(number) - number, number)
    region = np.tile(np.array(WHOLE), (len(own), 1))
    cut = changed[own]
    region[cut] = left[(start[which[own]] + at)[cut]]
    parts = [(own, own, np.tile(np.array(IN_PLACE), (len(own), 1)), region, np.zeros_like(own))]
    if partner is not None:
        sample, rectangle = shown.nonzero()
        to = into[sample, rectangle].astype(np.float64)
        come = (into if source is None else _xyxy(source))[sample, rectangle]
        factor = (to[:, 2:] - to[:, :2]) / np.maximum(come[:, 2:] - come[:, :2], 1)
        place = np.concatenate([factor, to[:, :2] - come[:, :2] * factor], axis=1)
        brought = partner.detach().cpu().numpy()[sample, rectangle]
        parts.append((sample, brought, place, to, rectangle + 1))
    sample, origin, place, region, order = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    ranked = np.lexsort((order, sample))
    total = len(sample)
    return Patches(
        size,
        sample[ranked],
        origin[ranked],
        place[ranked],
        region[ranked],
        weight=np.ones(total),
        mask=np.full(total, -1),
        rest=np.zeros(total, dtype=bool),
        order=order[ranked],
        over=np.zeros(total, dtype=bool),
    )


def blend_patches(keep: Tensor, partner: Tensor | None) -> Patches:
    """Describe a `Blend` plan; arguments as its fields."""
    batch = keep.shape[0]
    shared = batch > 1 and keep.stride(0) == 0
    rows = (keep[:1] if shared else keep)[:, 0].detach().cpu().numpy()
    which = np.zeros(batch, dtype=np.int64) if shared else np.arange(batch)
    samples = np.arange(batch)
    others = samples if partner is None else partner.detach().cpu().numpy()
    self_pair = others == samples
    if rows.shape[1:] == (1, 1):
        size, masks, mask = None, (), np.full(batch, -1)
        own = rows[which, 0, 0].astype(np.float64)
        rest = 1 - own
    else:
        size, masks = (int(rows.shape[1]), int(rows.shape[2])), tuple(rows)
        full, empty = (rows == 1).all(axis=(1, 2)), (rows == 0).all(axis=(1, 2))
        mask = np.where((full | empty)[which], -1, which)
        own, rest = 1.0 - empty[which], 1.0 - full[which]
    if partner is None:
        own = np.where(own > NEGLIGIBLE, 1.0, 0.0)  # a fill hides, its share is no label's
    else:
        # An image blended with itself does not change.
        own, mask = np.where(self_pair, 1.0, own), np.where(self_pair, -1, mask)
    rest = np.where(self_pair, 0.0, rest)
    sample = np.repeat(samples, 2)
    source = np.stack([samples, others], axis=1).reshape(-1)
    weight = np.stack([own, rest], axis=1).reshape(-1)
    second = np.tile([False, True], batch)
    kept = weight > NEGLIGIBLE
    total = int(kept.sum())
    return Patches(
        size,
        sample[kept],
        source[kept],
        place=np.tile(np.array(IN_PLACE), (total, 1)),
        region=np.tile(np.array(WHOLE), (total, 1)),
        weight=weight[kept],
        mask=np.repeat(mask, 2)[kept],
        rest=second[kept],
        order=second[kept].astype(np.int64),
        over=second[kept],
        masks=masks,
        mask_weighs=partner is not None,
    )


def uncovered(rectangles: Integers, size: tuple[int, int]) -> tuple[Integers, Floats]:
    """Cut what rectangles leave of an image into rectangles that don't overlap.

    Args:
        rectangles: (U, R, 4), x1, y1, x2, y2 in whole pixels, of U images, within `size`.
        size: Height and width of the images.

    Returns:
        The image that each piece belongs to, (P,), in order; the pieces, (P, 4), at most about
        3 R + 1 of an image.

    Examples:
        >>> import numpy as np
        >>> uncovered(np.array([[[0, 0, 4, 3]]]), (8, 4))
        (array([0]), array([[0., 3., 4., 8.]]))
    """
    across, first_x, last_x = _lines(rectangles[..., 0], rectangles[..., 2], size[1])
    down, first_y, last_y = _lines(rectangles[..., 1], rectangles[..., 3], size[0])
    # Each rectangle marks its corners; the sums of the marks count the rectangles over a cell.
    images, lines = across.shape
    marks = np.zeros((images, lines, lines), dtype=np.int32)
    image = np.broadcast_to(np.arange(images)[:, None], first_x.shape)
    for row, column, sign in (
        (first_y, first_x, 1),
        (first_y, last_x, -1),
        (last_y, first_x, -1),
        (last_y, last_x, 1),
    ):
        np.add.at(marks, (image, row, column), sign)
    free = marks.cumsum(axis=1).cumsum(axis=2)[:, :-1, :-1] == 0
    # Runs of free cells along each row of cells, then equal runs that lie one below the other.
    padded = np.pad(free, ((0, 0), (0, 0), (1, 1)))
    owner, row, start = (free & ~padded[:, :, :-2]).nonzero()
    end = (free & ~padded[:, :, 2:]).nonzero()[2] + 1
    x1, x2 = across[owner, start], across[owner, end]
    y1, y2 = down[owner, row], down[owner, row + 1]
    some = (x2 > x1) & (y2 > y1)
    owner, x1, x2, y1, y2 = (edge[some] for edge in (owner, x1, x2, y1, y2))
    ranked = np.lexsort((y1, x2, x1, owner))
    owner, x1, x2, y1, y2 = (edge[ranked] for edge in (owner, x1, x2, y1, y2))
    goes_on = (owner[1:] == owner[:-1]) & (x1[1:] == x1[:-1]) & (x2[1:] == x2[:-1])
    goes_on &= y1[1:] == y2[:-1]
    first, last = np.r_[True, ~goes_on], np.r_[~goes_on, True]
    if not len(owner):
        first = last = np.zeros(0, dtype=bool)
    pieces = np.stack([x1[first], y1[first], x2[first], y2[last]], axis=1)
    return owner[first], pieces.astype(np.float64)


def _lines(low: Integers, high: Integers, side: int) -> tuple[Integers, Integers, Integers]:
    """Return the edges of each image's rectangles and of the image in order, (U, 2 R + 2).

    Then where among them each rectangle starts and ends, (U, R) both: the first of equal edges.
    """
    images = len(low)
    ends = np.tile(np.array([0, side]), (images, 1))
    lines = np.sort(np.concatenate([ends, low, high], axis=1), axis=1)
    # All images in one ascending row, so that one search finds all edges.
    offset = np.arange(images)[:, None] * (side + 1)
    flat = (lines + offset).reshape(-1)
    start = np.arange(images)[:, None] * lines.shape[1]
    first, last = (np.searchsorted(flat, edge + offset) - start for edge in (low, high))
    return lines, first, last


def _xyxy(rectangles: Tensor) -> Integers:
    """Convert (top, left, bottom, right) to (x1, y1, x2, y2)."""
    edges: Integers = rectangles.detach().cpu().numpy()[..., [1, 0, 3, 2]]
    return edges


def _area(boxes: Integers) -> Integers:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
