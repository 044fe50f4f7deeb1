"""What an error says about a run: how its attempt ended, and whether to try again."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import Outcome


class PlanMismatch(Exception):
    """What the run would do is no longer what was planned under its key."""


class RankFailed(Exception):
    """A rank that assisted has failed; the message says how."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended; by default, that the process ended in its midst."""

    outcome: Outcome = Outcome.FAILED
    error: str | None = "it ended the process"
    traceback: str = ""
    is_final: bool = False
    """Would another attempt fail the same way?"""


DONE = Ending(Outcome.DONE, None)


def ending_of(failure: Exception) -> Ending:
    """How the attempt ended that raised this. To be called where it is handled."""
    outcome = _outcome(failure)
    return Ending(
        outcome,
        f"{type(failure).__name__}: {failure}",
        traceback.format_exc(),
        outcome == Outcome.DIVERGED or (outcome == Outcome.FAILED and _is_final(failure)),
    )


def _outcome(failure: Exception) -> Outcome:
    """DIVERGED, OUT_OF_MEMORY or FAILED."""
    from mixbench.experiments.training.loop import Diverged

    if isinstance(failure, Diverged):
        return Outcome.DIVERGED
    # torch's allocator for the CPU has no error of its own.
    signs = ("out of memory", "can't allocate memory")
    if isinstance(failure, MemoryError) or any(sign in str(failure).lower() for sign in signs):
        return Outcome.OUT_OF_MEMORY
    return Outcome.FAILED


def _is_final(failure: Exception) -> bool:
    """Not where the machine may have had a part in it."""
    if isinstance(failure, UserError | PlanMismatch):
        return True
    if isinstance(failure, OSError | RankFailed):
        return False
    return not any(word in str(failure) for word in ("CUDA", "cuDNN", "CUBLAS", "NCCL"))
