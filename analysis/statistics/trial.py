"""What a trial on a folder of images comes to: use, stay without mixing, or can't tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy import stats

from mixbench.analysis.statistics.estimates import CONFIDENCE
from mixbench.analysis.statistics.fit import FITTED, is_under_fitted
from mixbench.analysis.statistics.recommendation import Option, Word

_BEYOND_LUCK = 2.0
"""How many standard errors above guessing an accuracy must be."""


_FEWEST = 2
"""Replicates with the same result, for "no difference" to be an answer."""


class Outcome(StrEnum):
    """The answer in a word.

    USE: a method is better than no mixing, over replicates and over test images.
    STAY: no method is better, and that is shown.
    CANT_TELL: more replicates, images or epochs are needed.
    CANT_JUDGE: the network itself has not learnt enough for mixing to be judged.
    """

    USE = "use"
    STAY = "stay without mixing"
    CANT_TELL = "can't tell"
    CANT_JUDGE = "can't be judged"


@dataclass(frozen=True)
class Fit:
    """How the training without mixing went.

    Attributes:
        accuracy, nll: On the test images, the mean over replicates; fractions and nats.
        train_accuracy: On the clean training images.
        majority: The share of the largest class among the test images: what guessing gets.
        classes: How many.
        test_images: How many.
    """

    accuracy: float
    nll: float
    train_accuracy: float
    majority: float
    classes: int
    test_images: int

    @property
    def is_guessing(self) -> bool:
        """Is the accuracy no more than naming the largest class gives, but for luck?"""
        spread = math.sqrt(self.majority * (1 - self.majority) / self.test_images)
        return self.accuracy < self.majority + _BEYOND_LUCK * spread

    @property
    def is_overconfident(self) -> bool:
        """Is the NLL worse than that of equal probabilities for all classes?"""
        return self.nll > math.log(self.classes)


@dataclass(frozen=True)
class TrialAnswer:
    """What a trial comes to.

    Attributes:
        outcome: In a word.
        options: The methods to use, the best first; of the other outcomes those that are open.
        reasons: Why, in clauses, where it is not plain from the options.
    """

    outcome: Outcome
    options: tuple[Option, ...] = ()
    reasons: tuple[str, ...] = ()


def answer_of(
    options: Sequence[Option], images: Mapping[str, float], fit: Fit | None
) -> TrialAnswer:
    """Return what a trial comes to.

    Args:
        options: The methods and the baseline, as they are advised over replicates.
        images: cell -> standard error of its difference over replicates and test images.
        fit: Of the training without mixing; None where no such run is done.

    A method is used where its interval excludes 0 with the larger of the two standard errors.
    """
    methods = [option for option in options if option.word != Word.BASELINE]
    judged = [option for option in methods if option.word != Word.UNKNOWN]
    few = "two replicates with and without mixing are needed"
    if fit is None:
        return TrialAnswer(Outcome.CANT_TELL, tuple(methods), (few,))
    if fit.is_guessing:
        return TrialAnswer(
            Outcome.CANT_JUDGE,
            tuple(methods),
            (
                f"without mixing the network is right on {fit.accuracy:.0%} of the test images, "
                f"and naming the largest class always is on {fit.majority:.0%}: it has learnt "
                "nothing yet",
            ),
        )
    if not judged:
        return _without_spread(methods, fit, few)
    better = [one for one in judged if one.word in (Word.USE, Word.NOT_BEST)]
    sure = [one for one in better if one.word == Word.USE and _holds(one, images)]
    if sure:
        return TrialAnswer(Outcome.USE, tuple(sure))
    reasons = []
    if better:
        names = f"{fit.test_images} test images"
        reasons.append(f"better on these {names}, but other images may turn it")
    if is_under_fitted(fit.train_accuracy):
        reasons.append(
            f"without mixing the network has learnt {fit.train_accuracy:.0%} of its training "
            f"images (expected at least {FITTED:.0%}): with more epochs mixing may fare better"
        )
    undecided = [one for one in judged if one.word == Word.UNDECIDED]
    if undecided:
        most = max((one.more_replicates or 0 for one in undecided), default=0)
        more = f" (about {most} more)" if most else ""
        reasons.append(f"the replicates are too few or differ too much{more}")
    if reasons:
        return TrialAnswer(Outcome.CANT_TELL, tuple(better or undecided or judged), tuple(reasons))
    return TrialAnswer(Outcome.STAY, tuple(judged))


def _without_spread(methods: Sequence[Option], fit: Fit, few: str) -> TrialAnswer:
    """Answer where no difference has an interval: too few replicates, or never any difference."""
    same = [
        one
        for one in methods
        if one.contrast is not None and one.contrast.n >= _FEWEST and not one.contrast.difference
    ]
    if not same or len(same) < len(methods):
        return TrialAnswer(Outcome.CANT_TELL, tuple(methods), (few,))
    reason = (
        f"in each of {same[0].contrast.n if same[0].contrast else 0} replicates as many test "
        f"images are right with it as without ({fit.accuracy:.1%})"
    )
    return TrialAnswer(Outcome.STAY, tuple(same), (reason,))


def with_images(option: Option, images: Mapping[str, float]) -> tuple[float, float] | None:
    """Return the interval of an option's difference with new test images too; None if unknown.

    What the images add to the variance is known from all of them, while that of replicates is known
    from a few: each has its own quantile, normal and t, and the half-widths add in squares (MOVER,
    Zou and Donner 2008). Bonferroni's correction over the options holds for the images' part.

    Args:
        option: A method.
        images: cell -> standard error of its difference over replicates and test images.
    """
    contrast = option.contrast
    if contrast is None or contrast.difference is None or not contrast.standard_error:
        return None
    half = contrast.half_width
    if half is None:
        return None
    both = images.get(option.cell, 0.0)
    of_images = math.sqrt(max(0.0, both**2 - contrast.standard_error**2))
    quantile = float(stats.norm.ppf(1 - (1 - CONFIDENCE) / (2 * max(1, len(images)))))
    wide = math.hypot(half, quantile * of_images)
    return contrast.difference - wide, contrast.difference + wide


def _holds(option: Option, images: Mapping[str, float]) -> bool:
    ends = with_images(option, images)
    return ends is not None and (ends[0] > 0 or ends[1] < 0)
