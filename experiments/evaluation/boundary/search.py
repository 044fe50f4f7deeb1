"""Find decision boundaries: along straight lines between images, and along the gradient.

`Ask` gives the logits (B,K) float64 of images (B,C,H,W) in [0,1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mixbench.experiments.evaluation.gradients import slope

Ask = Callable[[Tensor], Tensor]

HALVINGS = 12
"""A boundary between two places is found to 1/4096 of their distance."""
OVERSHOOT = 1.02
"""Steps go a little beyond the boundary of the linear network, as in DeepFool."""


@dataclass(frozen=True)
class Line:
    """What the network says along the lines from some images to others.

    Attributes:
        logits: (P,B,K) at places from 0 (the image) to 1 (the other), equally far apart.
        place: (B,) float64, where the prediction first changes; NaN where it never does.
        boundary: (B,C,H,W), the image there.
        before: (B,) int64, the prediction before the change.
        after: (B,) int64, that behind it.
    """

    logits: Tensor
    place: Tensor
    boundary: Tensor
    before: Tensor
    after: Tensor

    @property
    def predicted(self) -> Tensor:
        """(P,B) int64."""
        return self.logits.argmax(dim=2)


def along_lines(ask: Ask, images: Tensor, others: Tensor, points: int) -> Line:
    """Ask the network along straight lines, and halve the piece where its answer first changes.

    Args:
        ask: The network.
        images: Where the lines begin, (B,C,H,W).
        others: Where they end, (B,C,H,W).
        points: Places on each line, ends included. What changes and changes back between two of
            them is not seen.
    """
    with torch.no_grad():
        shares = torch.linspace(0, 1, points, dtype=torch.float64)
        logits = torch.stack([ask(torch.lerp(images, others, float(share))) for share in shares])
        predicted = logits.argmax(dim=2)
        before = predicted[0]
        differs = predicted != before
        # argmax gives the first of the largest; 0 where there is none.
        index = differs.int().argmax(dim=0)
        shares = shares.to(images.device)
        low, high = shares[(index - 1).clamp(min=0)], shares[index]
        high_image = torch.lerp(images, others, _per_image(high, images))
        after = predicted.gather(0, index.unsqueeze(0)).squeeze(0)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            image = torch.lerp(images, others, _per_image(middle, images))
            says = ask(image).argmax(dim=1)
            is_beyond = says != before
            high = torch.where(is_beyond, middle, high)
            low = torch.where(is_beyond, low, middle)
            after = torch.where(is_beyond, says, after)
            high_image = torch.where(_per_image(is_beyond, images) > 0, image, high_image)
    place = torch.where(differs.any(dim=0), high, torch.nan)
    return Line(logits, place, high_image, before, after)


def along_gradient(ask: Ask, images: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Go from each image towards the class that is second there, until the prediction changes.

    Each step goes to where a linear network with the same logits and gradient would have its
    boundary (Moosavi-Dezfooli et al. 2016, DeepFool, with the second class alone); then the last
    step is halved until the boundary is found. Images may leave [0,1].

    Args:
        ask: The network, differentiable.
        images: (B,C,H,W).
        steps: At most so many.

    Returns:
        The images at the boundary (B,C,H,W), just behind it; the predictions there (B,) int64; and
        whether it was reached (B,) bool. Where it was not, the first two say nothing.
    """
    inside, outside = images.clone(), images.clone()
    with torch.no_grad():
        own = ask(images).argmax(dim=1)
    says = own.clone()
    is_reached = torch.zeros_like(own, dtype=torch.bool)
    left = torch.arange(len(images), device=images.device)
    for _ in range(steps):
        variable = inside[left].requires_grad_(True)
        logits = ask(variable)
        gap = _gap(logits, own[left])
        gradient = slope(gap.sum(), variable)
        squared = gradient.double().flatten(1).square().sum(dim=1)
        # Without a gradient, or a number, there is nowhere to go.
        can_go = squared.isfinite() & (squared > 0) & gap.detach().isfinite()
        if not can_go.any():
            break
        left, gradient = left[can_go], gradient[can_go]
        far = OVERSHOOT * gap.detach()[can_go] / squared[can_go]
        with torch.no_grad():
            moved = inside[left] - _per_image(far, images) * gradient
            now = ask(moved).argmax(dim=1)
        crossed = now != own[left]
        outside[left[crossed]], says[left[crossed]] = moved[crossed], now[crossed]
        is_reached[left[crossed]] = True
        left, moved = left[~crossed], moved[~crossed]
        inside[left] = moved
        if not len(left):
            break
    with torch.no_grad():
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            now = ask(middle).argmax(dim=1)
            is_beyond = now != own
            says = torch.where(is_beyond, now, says)
            where = _per_image(is_beyond, images) > 0
            outside, inside = (
                torch.where(where, middle, outside),
                torch.where(where, inside, middle),
            )
    return outside, says, is_reached


def steepness(ask: Ask, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The gradient by the image of the gap between two classes' probabilities.

    Args:
        ask: The network, differentiable.
        images: (B,C,H,W).
        first: (B,) int64.
        second: (B,) int64.

    Returns:
        (B,C,H,W).
    """
    variable = images.detach().clone().requires_grad_(True)
    probability = ask(variable).softmax(dim=1)
    pair = (probability.gather(1, one.unsqueeze(1)).sum() for one in (first, second))
    return slope(next(pair) - next(pair), variable)


def _gap(logits: Tensor, own: Tensor) -> Tensor:
    """The logit of a class less the largest of all others, (B,)."""
    mine = logits.gather(1, own.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, own.unsqueeze(1), -torch.inf)
    return mine - others.max(dim=1).values


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype).view(-1, *[1] * (images.dim() - 1))
