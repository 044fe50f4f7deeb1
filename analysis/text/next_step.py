"""What to do next with a sweep, as it stands: a sentence and a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixbench.analysis.statistics.recommendation import Advice, Option, Word
from mixbench.analysis.text.formatting import joined
from mixbench.analysis.text.names import method_name
from mixbench.experiments.text import plural

WORTH = 100
"""More replicates than these are not worth asking for."""
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
    names = _names(list(dict.fromkeys(option.name for option in undecided)))
    needed = max((option.more_replicates or 0 for option in undecided), default=0)
    if needed > WORTH:
        return NextStep(
            f"It would take more than {WORTH} more {unit}s to decide on {names}: so small a "
            "difference is hardly worth it."
        )
    amount = f"About {plural(needed, f'more {unit}')}" if needed else f"More {unit}s"
    return NextStep(f"{amount} in the YAML would decide on {names}.", now.sweep)


def _names(names: Sequence[str], word: str = "and") -> str:
    shown = [method_name(name) for name in names[:_MOST_NAMES]]
    left = len(names) - len(shown)
    return joined([*shown, f"{left} more"] if left else shown, word)
