"""An attack of squares without gradients (Andriushchenko et al. 2020, arXiv:1912.00049, for L∞).

It starts from stripes of ±ε and tries one square of ±ε at a random place after the other, each
smaller than the ones before, and keeps what lowers the margin. As it asks for outputs alone, it
finds what a masked gradient hides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.experiments.evaluation.attack.ball import Ball
from mixbench.experiments.evaluation.attack.losses import Predict, margin
from mixbench.experiments.evaluation.image_random import ImageRandom

FIRST_SHARE = 0.1
"""The share of the image that the first squares cover."""
HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries, those after which the squares cover half as much; other numbers in scale."""


def squares(
    predict: Predict,
    pixels: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    queries: int,
    draws: ImageRandom,
) -> tuple[Tensor, Tensor]:
    """Attack without gradients.

    Args:
        predict: From images (B,C,H,W) in [0,1] to logits (B,K).
        pixels: (B,C,H,W) float32 in [0,1].
        labels: (B,) int64.
        epsilon: Largest change of a value, in pixels from 0 to 1.
        queries: How many images the network is shown, of each.
        draws: Random numbers.

    Returns:
        The images with the highest margin, (B,C,H,W) float32, and which are still classified right,
        (B,) bool; `pixels` that are misclassified as they are, are left so.
    """
    channels, height, width = pixels.shape[1:]
    ball = Ball(pixels, epsilon)
    best, (loss, right) = pixels.clone(), _shown(predict, pixels, labels)
    stripes = _signs(draws.uniform("stripes", channels, 1, width))
    trial = ball.clip(pixels + epsilon * stripes)
    index = right.nonzero().flatten()
    for query in range(queries):
        if not len(index):
            break
        if query:
            inside = _square(draws, query, queries, (height, width))[index]
            signs = _signs(draws.uniform(f"sign {query}", channels, 1, 1))[index]
            trial = _painted(best[index], inside, signs, ball.take(index), pixels[index], epsilon)
        else:
            trial = trial[index]
        shown, hit = _shown(predict, trial, labels[index])
        # The stripes are where the search starts, better or not.
        better = (shown > loss[index]) | (query == 0)
        taken = index[better | ~hit]
        best[taken], loss[taken] = trial[better | ~hit], shown[better | ~hit]
        right[index] = hit
        index = index[hit]
    return best, right


def side_of(query: int, queries: int, height: int, width: int) -> int:
    """The side of the square at a query.

    Args:
        query: From 1.
        queries: How many there will be.
        height: Of the images.
        width: Of the images.

    Returns:
        In pixels, from 1 to less than the image's shorter side.

    Examples:
        >>> [side_of(query, 10_000, 28, 28) for query in (1, 11, 51, 9_999)]
        [9, 6, 4, 1]
    """
    scaled = query / queries * 10_000
    share = FIRST_SHARE / 2 ** sum(scaled > at for at in HALVED_AT)
    side = round((share * height * width) ** 0.5)
    return int(min(max(side, 1), max(1, min(height, width) - 1)))


def _square(draws: ImageRandom, query: int, queries: int, size: tuple[int, int]) -> Tensor:
    """(B,1,H,W) bool, inside of a square at a random place."""
    side = side_of(query, queries, *size)
    place = draws.uniform(f"place {query}", 2)
    inside = []
    for axis, length in enumerate(size):
        first = (place[:, axis : axis + 1] * (length - side + 1)).floor()
        where = torch.arange(length, device=place.device)
        inside.append((where >= first) & (where < first + side))
    return (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)


def _painted(
    images: Tensor, inside: Tensor, signs: Tensor, ball: Ball, pixels: Tensor, epsilon: float
) -> Tensor:
    """The images with ±ε in the squares; the other sign where that would change nothing."""
    painted = torch.where(inside, ball.clip(pixels + epsilon * signs), images)
    other = torch.where(inside, ball.clip(pixels - epsilon * signs), images)
    same = (painted == images).flatten(1).all(dim=1).view(-1, 1, 1, 1)
    return torch.where(same, other, painted)


def _shown(predict: Predict, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The margin against the label, and which images are classified right."""
    with torch.no_grad():
        logits = predict(images).double()
    return margin(logits, labels), logits.argmax(dim=1) == labels


def _signs(uniform: Tensor) -> Tensor:
    return (uniform < 0.5).float() * 2 - 1
