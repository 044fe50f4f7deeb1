"""Attack: accuracy where each pixel may be changed by up to ε to mislead the network.

FGSM and PGD (`steps`) are always there. `also` adds APGD with the margin and the log odds, from
several starts (`apgd`), and squares without gradients (`squares`); `source` adds transfer from
another network of the sweep (`transfer`). All use the network in evaluation mode; ε is in pixels
from 0 to 1, before normalisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mixbench.experiments.evaluation.attack import AttackSettings, transfer
from mixbench.experiments.evaluation.attack.apgd import apgd
from mixbench.experiments.evaluation.attack.ball import Ball
from mixbench.experiments.evaluation.attack.losses import Ascent, ascent
from mixbench.experiments.evaluation.attack.squares import squares
from mixbench.experiments.evaluation.attack.steps import pgd
from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.image_random import ImageRandom

BLIND = ("squares", "transfer")
"""The attacks that don't use the network's own gradient."""
GRID = tuple(min(2**power, 255) / 255 for power in range(9))
"""ε of curves: 1/255, doubled up to 1."""

check_runs = transfer.check


def measure(subject: Subject, settings: AttackSettings) -> Measured:
    """Accuracy on `settings.images` test images under attack, by ε.

    Metrics: `attack/clean`, `attack/fgsm/8-255` and `attack/pgd/8-255` for ε = 8/255 (`0.07` for an
    ε that is no whole number of 255ths), and the same for `apgd`, `squares` and `transfer` where
    they are asked for. With those, `attack/worst/8-255` is the accuracy where an image counts as
    right only if no attack misleads the network, and `attack/masked/8-255` the share of images that
    squares or transfer mislead, but nothing that follows the network's gradient. With `curve`,
    `attack/curve/pgd/half` and `attack/curve/pgd/chance` are the ε at which accuracy is half of the
    clean one, and that of guessing. Curves: `epsilon` and `accuracy` by attack from ε = 0, `step`
    (the step size of PGD by ε), `flat`, the share of images whose gradient is 0: FGSM cannot change
    them, and `masked`, what speaks for a masked gradient, where that was looked for.

    Args:
        subject: The network and its data.
        settings: ε, steps and images.

    Returns:
        Accuracies from 0 to 1.
    """
    attackers = _Attackers(subject, settings)
    tally = attackers.run(settings.epsilons)
    names = attackers.names
    metrics: dict[str, float | None] = {"attack/clean": tally.clean / tally.done}
    for epsilon in settings.epsilons:
        for name in names:
            metrics[f"attack/{name}/{metric_name(epsilon)}"] = tally.accuracy(name, epsilon)
        if settings.source is not None and "transfer" not in names:
            # The source itself: its images would be an attack with its own gradient.
            metrics[f"attack/transfer/{metric_name(epsilon)}"] = None
        if len(names) > 2:
            metrics[f"attack/worst/{metric_name(epsilon)}"] = tally.accuracy("worst", epsilon)
        if set(BLIND) & set(names):
            metrics[f"attack/masked/{metric_name(epsilon)}"] = tally.accuracy("masked", epsilon)
    curves: dict[str, Any] = {
        "images": tally.done,
        "epsilon": [0.0, *settings.epsilons],
        "accuracy": {name: tally.curve(name, settings.epsilons) for name in names},
        "steps": settings.steps,
        "step": [settings.step_size(epsilon) for epsilon in settings.epsilons],
        "flat": tally.flat / tally.done,
    }
    signs = _beaten(tally, names, settings.epsilons)
    if settings.curve:
        chance = 1 / len(subject.dataset.classes)
        epsilons = attackers.run_to_chance(tally, chance)
        curves["curve"] = {
            "epsilon": [0.0, *epsilons],
            "accuracy": {name: tally.curve(name, epsilons) for name in names},
        }
        for name in names:
            accuracy = tally.curve(name, epsilons)
            for what, level in (("half", accuracy[0] / 2), ("chance", chance)):
                metrics[f"attack/curve/{name}/{what}"] = reached(epsilons, accuracy, level)
        strongest = attackers.strongest
        if metrics[f"attack/curve/{strongest}/chance"] is None:
            signs.append(f"{strongest} stays above guessing at every ε")
    if settings.curve or set(BLIND) & set(names):
        curves["masked"] = signs
    return Measured(metrics, curves)


@dataclass
class _Tally:
    """Counts over images. right: (attack, ε) -> images that are right under it."""

    clean: int = 0
    flat: int = 0
    done: int = 0
    right: Counter[tuple[str, float]] = field(default_factory=Counter)

    def accuracy(self, name: str, epsilon: float) -> float:
        return self.right[name, epsilon] / self.done

    def curve(self, name: str, epsilons: Sequence[float]) -> list[float]:
        """Accuracies from ε = 0 on."""
        return [self.clean / self.done, *(self.accuracy(name, epsilon) for epsilon in epsilons)]


class _Attackers:
    """The attacks that are asked for, on one network."""

    def __init__(self, subject: Subject, settings: AttackSettings) -> None:
        self.subject, self.settings = subject, settings
        self.source = transfer.source_of(subject, settings)
        also = [*settings.also, *(["transfer"] if self.source is not None else [])]
        self.names = ("fgsm", "pgd", *also)
        self.strongest = "apgd" if "apgd" in also else "pgd"

    def run(self, epsilons: Sequence[float]) -> _Tally:
        """Attack all images at every ε."""
        tally, settings = _Tally(), self.settings
        with input_gradients(self.subject.network):
            for pixels, labels, where in self.subject.indexed(settings.images, settings.seed):
                first = ascent(self.predict, pixels, labels)
                rising, _, hit = first
                tally.clean += int(hit.sum())
                tally.flat += int((rising == 0).flatten(1).all(dim=1).sum())
                tally.done += len(labels)
                for epsilon in epsilons:
                    right = self._attack(pixels, labels, where, epsilon, first)
                    blind = [right[name] for name in BLIND if name in right]
                    guided = torch.stack([right[n] for n in right if n not in BLIND]).all(dim=0)
                    right["worst"] = torch.stack([guided, *blind]).all(dim=0)
                    right["masked"] = guided & ~right["worst"]
                    for name, still in right.items():
                        tally.right[name, epsilon] += int(still.sum())
        return tally

    def run_to_chance(self, tally: _Tally, chance: float) -> list[float]:
        """Attack at the ε of the grid, until the strongest attack leaves no more than chance."""
        epsilons = []
        for epsilon in GRID:
            epsilons.append(epsilon)
            if (self.strongest, epsilon) not in tally.right:
                tally.right |= self.run([epsilon]).right
            if tally.accuracy(self.strongest, epsilon) <= chance:
                break
        return epsilons

    def predict(self, pixels: Tensor) -> Tensor:
        """Logits of images in [0,1]."""
        self.subject.beat()
        logits: Tensor = self.subject.network(self.subject.normalised(pixels))
        return logits

    def _attack(
        self, pixels: Tensor, labels: Tensor, where: Tensor, epsilon: float, first: Ascent
    ) -> dict[str, Tensor]:
        """Return which images, (B,) bool, are still classified right, by attack."""
        settings = self.settings
        once = Ball(pixels, epsilon).step(pixels, first[0], epsilon)
        right = {"fgsm": self._is_right(once, labels)}
        draws = ImageRandom(where, settings.seed, f"attack {epsilon:.6g}")
        _, right["pgd"] = pgd(
            self.predict,
            pixels,
            labels,
            epsilon,
            steps=settings.steps,
            step=settings.step_size(epsilon),
            draws=draws,
            first=first,
        )
        if "apgd" in settings.also:
            right["apgd"] = self._apgd(pixels, labels, where, epsilon, right["pgd"])
        if "squares" in settings.also:
            draws = ImageRandom(where, settings.seed, f"squares {epsilon:.6g}")
            _, right["squares"] = squares(
                self.predict, pixels, labels, epsilon, queries=settings.queries, draws=draws
            )
        if self.source is not None:
            steps = settings.apgd_steps
            foreign = transfer.transferred(self.source, pixels, labels, epsilon, steps)
            right["transfer"] = first[2] & self._is_right(foreign, labels)
        return right

    def _apgd(
        self, pixels: Tensor, labels: Tensor, where: Tensor, epsilon: float, left: Tensor
    ) -> Tensor:
        """Attack with each loss from each start what PGD left, which saves most of the work."""
        settings, right = self.settings, left.clone()
        for loss_name in settings.losses:
            for restart in range(settings.restarts):
                index = right.nonzero().flatten()
                name = f"apgd {loss_name} {restart} {epsilon:.6g}"
                ball = Ball(pixels[index], epsilon)
                start = ball.random(ImageRandom(where[index], settings.seed, name))
                _, right[index] = apgd(
                    self.predict,
                    labels[index],
                    ball,
                    start,
                    steps=settings.apgd_steps,
                    loss_name=loss_name,
                )
        return right

    def _is_right(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            return self.predict(images).argmax(dim=1) == labels


def _beaten(tally: _Tally, names: Sequence[str], epsilons: Sequence[float]) -> list[str]:
    """Say where an attack without the network's gradient is stronger than the best with it."""
    guided = "apgd" if "apgd" in names else "pgd"
    return [
        f"{blind} beats {guided} at ε = {metric_name(epsilon).replace('-', '/')}"
        for blind in BLIND
        if blind in names
        for epsilon in epsilons
        if tally.accuracy(blind, epsilon) < tally.accuracy(guided, epsilon)
    ]


def reached(epsilons: Sequence[float], accuracy: Sequence[float], level: float) -> float | None:
    """The ε at which a curve first falls to a level, on the straight line between two of its ε.

    Args:
        epsilons: Rising, without 0.
        accuracy: At 0, and at each of them.
        level: An accuracy.

    Returns:
        None where it stays above.

    Examples:
        >>> reached([0.1, 0.2], [0.9, 0.5, 0.1], 0.3), reached([0.1], [0.9, 0.5], 0.3)
        (0.15000000000000002, None)
    """
    xs = [0.0, *epsilons]
    for place, value in enumerate(accuracy):
        if value <= level:
            if not place:
                return 0.0
            before = accuracy[place - 1]
            share = (before - level) / (before - value)
            return xs[place - 1] + share * (xs[place] - xs[place - 1])
    return None


def metric_name(epsilon: float) -> str:
    """Write ε as in the names of metrics.

    Args:
        epsilon: In pixels from 0 to 1.

    Returns:
        "8-255", or "0.07" where it is no whole number of 255ths.

    Examples:
        >>> metric_name(8 / 255), metric_name(0.07)
        ('8-255', '0.07')
    """
    shades = epsilon * 255
    return f"{round(shades)}-255" if abs(shades - round(shades)) < 1e-6 else f"{epsilon:.6g}"
