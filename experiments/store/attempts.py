"""Record how attempts at a run ended; decide when a run has failed for good."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.states import FAULTS, Outcome

RETRIES = 2


def record(
    folder: RunFolder,
    claim: Mapping[str, Any],
    outcome: Outcome,
    error: str | None = None,
    *,
    traceback: str = "",
    retries: int = RETRIES,
    final: bool = False,
) -> bool:
    """Record the end of an attempt; has the run failed with it?

    claim: the claim's body with its `number`. `final` fails the run at once; otherwise a fault
    does when `retries` repetitions got no further than the checkpoint that was there before.
    """
    progress = claim.get("progress") or {}
    folder.add_attempt(
        {
            "attempt": claim["number"],
            "worker": claim.get("worker"),
            "host": claim.get("host"),
            "job": claim.get("job"),
            "started": claim.get("started"),
            "ended": time.time(),
            "outcome": outcome,
            "error": error,
            "saved": progress.get("saved", 0),
        }
    )
    tries = in_vain(folder.attempts())
    if not final and (outcome not in FAULTS or tries <= retries):
        return False
    reason = error or outcome
    if not final and tries > 1:
        first, *rest = reason.split("\n")
        reason = "\n".join([f"{first} ({tries} attempts got no further)", *rest])
    folder.fail(reason, traceback, claim["number"])
    return True


def in_vain(rows: list[dict[str, Any]]) -> int:
    """The faults since the run last made progress, or was retried.

    An attempt that left a later checkpoint than all before it resets the count: a run that is
    killed every hour and gains an hour each time finishes in the end.
    """
    count = 0
    furthest = 0
    for row in rows:
        if row.get("outcome") == Outcome.RETRY:
            count = 0
            continue
        saved_step = int(row.get("saved") or 0)
        if saved_step > furthest:
            furthest, count = saved_step, 0
            if row.get("outcome") in FAULTS:
                # It failed on the way from there: the first of those that may.
                count = 1
        elif row.get("outcome") in FAULTS:
            count += 1
    return count
