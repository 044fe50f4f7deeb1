"""Classify errors of a run: how its attempt ended, and whether to try again."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import Outcome


class PlanMismatch(Exception):
    """The run's configuration no longer gives the key under which it was planned."""


class RankFailed(Exception):
    """A rank that assisted has failed; the message says how."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended; by default, its process ended in the middle of it."""

    outcome: Outcome = Outcome.FAILED
    error: str | None = "it ended the process"
    traceback: str = ""
    is_final: bool = False
    """Would another attempt fail the same way?"""


DONE = Ending(Outcome.DONE, None)


def ending_of(failure: Exception) -> Ending:
    """Return how the attempt that raised this ended. Call it in the `except` block."""
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
    """Would the error happen again? No if the machine may have caused it."""
    if isinstance(failure, UserError | PlanMismatch):
        return True
    if isinstance(failure, OSError | RankFailed):
        return False
    return not any(word in str(failure) for word in ("CUDA", "cuDNN", "CUBLAS", "NCCL"))
