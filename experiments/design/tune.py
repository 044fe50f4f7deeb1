"""How the settings of a sweep's methods are chosen, declared before it runs.

tune:
  over: {augmentation.prob: [0.25, 0.5, 1], augmentation.alpha: [0.2, 1]}
  replicates: 5
  metric: validation/nll
  rule: best                            # or one_se
  halving: {at: [0.3, 0.6], keep: 0.5}  # optional
  default: true
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from mixbench.experiments.design import tasks
from mixbench.experiments.errors import UserError, unknown

KEYS = ("over", "replicates", "metric", "rule", "halving", "default")
SECTIONS = ("augmentation", "staging", "training", "transfer", "model", "teacher")
"""Of a run, those whose keys can be tuned."""
METRICS = tasks.validation_metrics()
"""metric -> 1 where higher is better, -1 where lower is."""
BEST, ONE_SE = "best", "one_se"
RULES = (BEST, ONE_SE)
REPLICATES = 5
FIRST_REPLICATE = 1_000_000
"""The number of the first tuning replicate, far from those of a sweep that grows."""
_MOST_REPLICATES = 10_000
_MOST_LEVELS = 10


@dataclass(frozen=True)
class Halving:
    """When poor settings are stopped.

    Attributes:
        at: Shares of a training, rising.
        keep: The share of the settings that goes on after each.
    """

    at: tuple[float, ...]
    keep: float

    def left(self, settings: int, level: int) -> int:
        """Return how many of so many settings go on after the first `level` looks; at least 1."""
        for _ in range(level):
            # The nearest float of 0.1 is above it: 10 settings of which 0.1 are kept leave 1.
            settings = max(1, math.ceil(settings * self.keep - 1e-9))
        return settings


@dataclass(frozen=True)
class Tune:
    """What is tried, on what, and how one setting is chosen.

    Attributes:
        over: dotted key -> the values to try.
        replicates: The numbers of the tuning replicates.
        metric: What the settings are compared by: a metric of the validation split.
        rule: "best", or "one_se": the weakest setting within one standard error of the best.
        halving: When poor settings are stopped; None if all are trained to the end.
        default: Is the setting that the sweep has anyway trained on the final replicates too?
    """

    over: Mapping[str, Sequence[Any]]
    replicates: tuple[int, ...]
    metric: str = "validation/nll"
    rule: str = BEST
    halving: Halving | None = None
    default: bool = True

    @property
    def better(self) -> int:
        """1 where a higher value of the metric is better, -1 where a lower one is."""
        return METRICS[self.metric]

    def how(self) -> dict[str, Any]:
        """Return what decides which of some settings is chosen, as JSON has it."""
        halving = None if self.halving is None else {**asdict(self.halving)}
        return {
            "metric": self.metric,
            "rule": self.rule,
            "halving": None if halving is None else {**halving, "at": list(halving["at"])},
        }


def read(spec: Mapping[str, Any]) -> Tune | None:
    """Return how a sweep tunes; None where it does not, UserError where it is wrong.

    Whether its replicates are others than the final ones is up to `check_disjoint`, and whether
    the cells have what is tuned to the sweep.
    """
    given = spec.get("tune")
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"tune: got {given!r}, expected a mapping of {', '.join(KEYS)}")
    for key in given:
        if key not in KEYS:
            raise unknown("key of tune", key, KEYS)
    replicates = _replicates(given.get("replicates", REPLICATES))
    rule = given.get("rule", BEST)
    if rule not in RULES:
        raise unknown("value of tune.rule", rule, RULES)
    if rule == ONE_SE and len(replicates) < 2:
        raise UserError(
            "tune.rule: one_se needs the standard error over at least 2 tuning replicates, got 1; "
            "give more in tune.replicates, or rule: best"
        )
    default = given.get("default", True)
    if not isinstance(default, bool):
        raise UserError(f"tune.default: got {default!r}, expected true or false")
    metric = given.get("metric", "validation/nll")
    _check_metric(metric)
    halving = _halving(given.get("halving"))
    return Tune(_over(given.get("over")), replicates, metric, rule, halving, default)


def check_disjoint(tune: Tune, final: Sequence[int | None], given: Any) -> None:
    """Raise UserError where a tuning replicate is a final one too.

    Args:
        tune: What is tuned.
        final: The numbers of the final replicates; None for runs that have none.
        given: `tune.replicates` as it was given.
    """
    both = sorted({number for number in final if number is not None} & set(tune.replicates))
    if both:
        some = ", ".join(map(str, both[:5])) + (", ..." if len(both) > 5 else "")
        raise UserError(
            f"tune.replicates: got {given!r}, but {some} {'is' if len(both) == 1 else 'are'} among "
            "the final `replicates` too; expected others, so that no setting is chosen on what it "
            f"is judged by; a plain number takes them from {FIRST_REPLICATE} on"
        )


def is_mixing(key: str) -> bool:
    """Does a key mean nothing in a run without augmentation?"""
    return key.partition(".")[0] in ("augmentation", "staging") or key == "transfer.mixing"


def _over(given: Any) -> dict[str, tuple[Any, ...]]:
    example = "such as {augmentation.prob: [0.25, 0.5, 1]}"
    if not isinstance(given, Mapping) or not given:
        raise UserError(
            f"tune.over: got {given!r}, expected a mapping of keys to values, {example}"
        )
    over = {}
    for key, values in given.items():
        section = str(key).partition(".")[0]
        if section not in SECTIONS:
            raise unknown("section in tune.over", section, SECTIONS)
        if key in ("augmentation", "augmentation.name"):
            raise UserError(
                f"tune.over: got {key}, but methods are compared, not tuned; expected parameters, "
                f"{example}"
            )
        if "." not in str(key) and key != "staging":
            raise UserError(f"tune.over: got {key}, expected a dotted key, {example}")
        texts = [json.dumps(value, sort_keys=True, default=repr) for value in values or ()]
        if not isinstance(values, list) or len(values) < 2 or len(set(texts)) < len(texts):
            raise UserError(
                f"tune.over.{key}: got {values!r}, expected a list of at least two values, each "
                "once"
            )
        over[str(key)] = tuple(values)
    return over


def _replicates(given: Any) -> tuple[int, ...]:
    if type(given) is int and 0 < given <= _MOST_REPLICATES:
        return tuple(range(FIRST_REPLICATE, FIRST_REPLICATE + given))
    are_numbers = isinstance(given, list) and all(
        type(number) is int and 0 <= number < 2**31 for number in given
    )
    if not are_numbers or not given or len(set(given)) != len(given):
        raise UserError(
            f"tune.replicates: got {given!r}, expected how many (at most {_MOST_REPLICATES}), or a "
            "list of whole numbers from 0, each once"
        )
    return tuple(given)


def _check_metric(metric: Any) -> None:
    if isinstance(metric, str) and metric.partition("/")[0] in ("test", "train", "occlusion"):
        raise UserError(
            f"tune.metric: got {metric!r}, but a setting is chosen on validation data alone; "
            f"expected one of {', '.join(METRICS)}"
        )
    if not isinstance(metric, str) or metric not in METRICS:
        raise unknown("metric in tune.metric", metric, METRICS)


def _halving(given: Any) -> Halving | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise UserError(
            f"tune.halving: got {given!r}, expected such as {{at: [0.3, 0.6], keep: 0.5}}"
        )
    for key in given:
        if key not in ("at", "keep"):
            raise unknown("key of tune.halving", key, ("at", "keep"))
    at, keep = given.get("at"), given.get("keep", 0.5)
    if (
        not isinstance(at, list)
        or not 0 < len(at) <= _MOST_LEVELS
        or not all(_is_number(share) and 0 < share < 1 for share in at)
    ):
        raise UserError(
            f"tune.halving.at: got {at!r}, expected a list of shares of the training above 0 and "
            "below 1, such as [0.3, 0.6]"
        )
    if any(later <= earlier for earlier, later in pairwise(at)):
        raise UserError(f"tune.halving.at: got {at!r}, expected shares that rise")
    if not _is_number(keep) or not 0 < keep < 1:
        raise UserError(f"tune.halving.keep: got {keep!r}, expected a share above 0 and below 1")
    return Halving(tuple(map(float, at)), float(keep))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
