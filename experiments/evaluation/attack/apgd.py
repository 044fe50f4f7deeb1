"""APGD: steps whose sizes adapt to each image (Croce and Hein 2020, arXiv:2003.01690, algorithm 1).

From a step of 2 ε on, an image's step is halved at checkpoints where the loss rose in less than
three quarters of the steps since the last one, or where neither its best value nor the step has
changed; it goes on from the best point then. Steps have momentum.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mixbench.experiments.evaluation.attack import LossName
from mixbench.experiments.evaluation.attack.ball import Ball
from mixbench.experiments.evaluation.attack.losses import Predict, ascent, height

MOMENTUM = 0.75
RISING = 0.75


def apgd(
    predict: Predict,
    labels: Tensor,
    ball: Ball,
    start: Tensor,
    *,
    steps: int,
    loss_name: LossName,
    until_wrong: bool = True,
) -> tuple[Tensor, Tensor]:
    """Climb a loss inside a ball.

    Args:
        predict: From images (B,C,H,W) in [0,1] to logits (B,K).
        labels: (B,) int64.
        ball: Where images may be.
        start: (B,C,H,W) float32, inside of it.
        steps: How many.
        loss_name: What to climb.
        until_wrong: End at the first point that is misclassified; else climb to the end, for images
            that shall mislead another network.

    Returns:
        The points with the highest loss, (B,C,H,W) float32, and whether they are classified right,
        (B,) bool.
    """
    best = start.clone()
    right = torch.ones(len(start), dtype=torch.bool, device=start.device)
    if not len(start):
        return best, right
    slope, loss, hit = ascent(predict, start, labels, loss_name)
    right &= hit
    going = _Climb(torch.arange(len(start), device=start.device), start, slope, loss, ball)
    checkpoints = set(_checkpoints(steps))
    for step in range(1, steps + 1):
        if until_wrong:
            going = going.take(right[going.index])
            if not len(going.index):
                break
        points = going.next_points()
        if step < steps:
            slope, loss, hit = ascent(predict, points, labels[going.index], loss_name)
        else:
            # No step follows, so no gradient is needed.
            slope = going.slope
            loss, hit = height(predict, points, labels[going.index], loss_name)
        better = going.move(points, slope, loss)
        # The first point that is wrong has not always the highest loss: cross-entropy and the
        # prediction don't agree where there are more than two classes.
        taken = better | ~hit if until_wrong else better
        best[going.index[taken]] = points[taken]
        right[going.index[taken]] = hit[taken]
        if step in checkpoints:
            going.adapt()
    return best, right


class _Climb:
    """The state of the images that are still on their way.

    Args:
        index: (n,) int64, which images.
        start: (n,C,H,W), where they are.
        slope: (n,C,H,W), the gradient there.
        loss: (n,) float64.
        ball: Where they may be.
    """

    def __init__(
        self, index: Tensor, start: Tensor, slope: Tensor, loss: Tensor, ball: Ball
    ) -> None:
        self.index, self.ball = index, ball
        self.points = self.previous = self.best_points = start
        self.slope = self.best_slope = slope
        self.loss = self.best_loss = self.last_best = loss
        self.size = torch.full((len(start), 1, 1, 1), 2 * ball.radius, device=start.device)
        self.was_halved = torch.ones(len(start), dtype=torch.bool, device=start.device)
        self.rises = torch.zeros(len(start), dtype=torch.int64, device=start.device)
        self.since = 0
        self.is_first = True

    def next_points(self) -> Tensor:
        """The points after the next step."""
        ahead = self.ball.step(self.points, self.slope, self.size)
        if self.is_first:
            return ahead
        moved = MOMENTUM * (ahead - self.points)
        kept = (1 - MOMENTUM) * (self.points - self.previous)
        return self.ball.clip(self.points + moved + kept)

    def move(self, points: Tensor, slope: Tensor, loss: Tensor) -> Tensor:
        """Go to points; which of them are the best so far? (n,) bool."""
        self.rises = self.rises + (loss > self.loss)
        self.previous, self.points, self.slope, self.loss = self.points, points, slope, loss
        better = loss > self.best_loss
        wide = better.view(-1, 1, 1, 1)
        self.best_points = torch.where(wide, points, self.best_points)
        self.best_slope = torch.where(wide, slope, self.best_slope)
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.since += 1
        self.is_first = False
        return better

    def adapt(self) -> None:
        """Halve steps that lead nowhere, and go back to the best points."""
        few = self.rises < RISING * self.since
        stuck = ~self.was_halved & (self.best_loss <= self.last_best)
        self.was_halved = few | stuck
        self.last_best = self.best_loss
        wide = self.was_halved.view(-1, 1, 1, 1)
        self.size = torch.where(wide, self.size / 2, self.size)
        self.points = torch.where(wide, self.best_points, self.points)
        self.previous = torch.where(wide, self.best_points, self.previous)
        self.slope = torch.where(wide, self.best_slope, self.slope)
        self.loss = torch.where(self.was_halved, self.best_loss, self.loss)
        self.rises, self.since = torch.zeros_like(self.rises), 0

    def take(self, which: Tensor) -> _Climb:
        """The same of some of the images."""
        if bool(which.all()):
            return self
        part = object.__new__(_Climb)
        for name, value in vars(self).items():
            is_of_images = isinstance(value, Tensor)
            setattr(part, name, value[which] if is_of_images else value)
        part.ball = self.ball.take(which)
        return part


def _checkpoints(steps: int) -> Iterator[int]:
    """The steps after which sizes are halved, closer and closer.

    They are at 0.22 of all steps, and then each 0.03 sooner after the one before, at least 0.06.
    """
    last, at = 0.0, 0.22
    while at <= 1:
        yield max(1, round(at * steps))
        last, at = at, at + max(at - last - 0.03, 0.06)
