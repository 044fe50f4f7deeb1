"""What to do next with a sweep, as it stands: a sentence and a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from mixbench.analysis.statistics.recommendation import Advice, Option, Word
from mixbench.analysis.text.formatting import joined
from mixbench.analysis.text.names import method_name
from mixbench.experiments.text import plural

WORTH = 100
"""More replicates than these are not worth asking for."""
FEW = 20
"""So many more are worth asking for where a difference is large already."""
_MOST_NAMES = 4


@dataclass(frozen=True)
class NextStep:
    """A sentence, and the command for it; empty where a file is to be changed first."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Standing:
    """How a sweep stands.

    Attributes:
        name: Of the sweep, as a shell takes it.
        sweep: The command that does its missing runs.
        failed, left: Runs that failed, and that are not done yet.
        regime: Warnings about the training without mixing, the gravest first.
        is_tuned: Were settings chosen by tuning?
        is_small_test: Is the test set too small for the margin, and could folds mend that?
    """

    name: str
    sweep: str
    failed: int = 0
    left: int = 0
    regime: Sequence[str] = ()
    is_tuned: bool = False
    is_small_test: bool = False


def next_step(advice: Advice, now: Standing) -> NextStep:
    """Return the first of what is left to do: finish, mend the training, decide, use it."""
    if now.failed:
        return NextStep(
            f"{plural(now.failed, 'run')} failed: mend the reason (in the table of runs), and "
            "give them another chance.",
            f"mixbench retry {now.name}",
        )
    if now.left:
        return NextStep(f"{plural(now.left, 'run')} left to do.", now.sweep)
    if now.regime:
        return NextStep(
            "First mend the training without mixing; until then mixing can't be judged. A "
            "learning rate for the sweep's YAML is proposed by",
            "mixbench find-lr YAML",
        )
    options = [option for regime in advice.regimes for option in regime.options]
    if any(option.word == Word.UNKNOWN for option in options) and not any(
        option.contrast is not None and option.contrast.low is not None for option in options
    ):
        return NextStep(f"A second {advice.unit} in the YAML, for intervals.", now.sweep)
    undecided = [option for option in options if option.word == Word.UNDECIDED]
    used = list(dict.fromkeys(o.name for o in options if o.word == Word.USE))
    if used:
        more = "" if now.is_tuned else " A tuned setting may gain more (tune: in the YAML)."
        more += f" {_decide(undecided, advice.unit, now).text}" if undecided else ""
        return NextStep(
            f"Paste the lines for {_names(used, 'or')} into your training.{more}",
            f"mixbench recommend {now.name}",
        )
    if now.is_small_test:
        return NextStep(
            "Test on more images, as more replicates don't: dataset.folds: 5 in the YAML tests "
            "on all of a folder that has no test images of its own.",
            now.sweep,
        )
    if undecided:
        return _decide(undecided, advice.unit, now)
    return NextStep(
        "Stay as you are, or try other methods, or the same with more epochs.",
        "mixbench list augmentations",
    )


def _decide(undecided: Sequence[Option], unit: str, now: Standing) -> NextStep:
    names = _named(undecided)
    needed = max((option.more_replicates or 0 for option in undecided), default=0)
    if needed <= WORTH:
        amount = f"About {plural(needed, f'more {unit}')}" if needed else f"More {unit}s"
        return NextStep(f"{amount} in the YAML would decide on {_names(names)}.", now.sweep)
    near = {option: more for option in undecided if 0 < (more := _if_it_stays(option)) <= FEW}
    text = f"It would take more than {WORTH} more {unit}s to decide on"
    if not near:
        return NextStep(f"{text} {_names(names)}: so small a difference is hardly worth it.")
    amount = plural(max(near.values()), f"more {unit}")
    found = _named(list(near))
    rest = [name for name in names if name not in found]
    others = f" {text} small differences of {_names(rest)}." if rest else ""
    return NextStep(
        f"About {amount} in the YAML would decide on {_names(found)} where the difference is "
        f"large, if it stays so.{others}",
        now.sweep,
    )


def _if_it_stays(option: Option) -> int:
    """Return how many more replicates would exclude 0 if the difference stays as it is.

    0 where that is unknown, or the difference is within the margin.
    """
    one = option.contrast
    if one is None or one.difference is None or one.low is None or one.high is None:
        return 0
    if abs(one.difference) <= (one.margin or 0) or one.difference == 0:
        return 0
    # Intervals shrink with the square root of n, and a little more with the degrees of freedom.
    return max(1, ceil(one.n * ((one.high - one.low) / 2 / one.difference) ** 2) - one.n)


def _named(options: Sequence[Option]) -> list[str]:
    return list(dict.fromkeys(option.name for option in options))


def _names(names: Sequence[str], word: str = "and") -> str:
    shown = [method_name(name) for name in names[:_MOST_NAMES]]
    left = len(names) - len(shown)
    return joined([*shown, f"{left} more"] if left else shown, word)
