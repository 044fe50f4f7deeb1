"""The descriptions of runs, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixbench.experiments.design import tasks
from mixbench.experiments.store.states import RunState
from mixbench.experiments.tracking.hashing import short_hash
from mixbench.experiments.tracking.stored_runs import NOTE, NOTE_HASH, StoredRun

REPORT = "report.html"
"""The page that `mixbench report` writes, as an artifact of the sweep's own run."""
_OLD_FAILURE = "**Failed.** "
_MOST_SHOWN = 3
_SHOWN = (
    ("test/accuracy", "accuracy", True),
    ("test/ece", "ECE", True),
    ("test/nll", "NLL", False),
)


def run_note(
    name: str, state: str, metrics: Mapping[str, Any], config: Mapping[str, Any] | None = None
) -> str:
    """Return what a run is, and what came of it. config: its own, which says its task."""
    values = [
        f"{title} {100 * metrics[key]:.2f} %" if percent else f"{title} {metrics[key]:.4f}"
        for key, title, percent in _shown(tasks.of_config(config or {}))
        if isinstance(metrics.get(key), int | float)
    ]
    if state != RunState.DONE:
        return f"**{escaped(name)}**: {state}."
    return f"**{escaped(name)}**: {', '.join(values) or 'done'}."


def _shown(task: tasks.TaskInfo) -> tuple[tuple[str, str, bool], ...]:
    if task.name == tasks.CLASSIFICATION:
        return _SHOWN
    measured = [one for one in task.metrics if one.key.startswith(tasks.OF_TEST)]
    return tuple((one.key, one.title, one.percent) for one in measured[:_MOST_SHOWN])


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return "".join(f"\\{one}" if one in r"\`*_{}[]<>#|" else one for one in text)


def with_link(text: str, experiment_id: str, run_id: str) -> str:
    """Return a description that ends with where the report is.

    A link within MLflow's page, so that it holds at whatever address a server has.
    """
    address = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{REPORT}"
    address += "?workflowType=machine_learning"
    return f"{text}\n\n[Report of the sweep]({address})"


def tags(run: StoredRun, note: str, before: str = "") -> dict[str, str]:
    """Return the tags of a description; none where a user has written another one there.

    before: a description that earlier versions wrote.
    """
    there = run.tags.get(NOTE)
    own = there is None or there == before or short_hash(there) == run.tags.get(NOTE_HASH)
    if not own and NOTE_HASH not in run.tags:
        own = str(there).startswith(_OLD_FAILURE)
    return {NOTE: note, NOTE_HASH: short_hash(note)} if note and own else {}
