"""Check the question of a sweep against its cells, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixbench.experiments.config.schema import RunConfig, check_key
from mixbench.experiments.design import question as questions
from mixbench.experiments.design.question import BASELINE, NAMED, Question
from mixbench.experiments.design.tasks import CLASSIFICATION, OF_TEST, TaskInfo
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.merge import flatten

MOST_CONTRASTS = 5000
"""Of one question: an interval for each is nothing that anybody reads."""
_METHOD, _NAME = "augmentation.name", "staging.name"


def read(spec: Mapping[str, Any]) -> Question | None:
    """Return the question of a sweep; UserError where it is wrong, whatever the cells are."""
    question = questions.read(spec)
    for name, pattern in (question.groups if question else {}).items():
        for key in pattern:
            check_key(key, f"question.contrasts.{name}")
    return question


def with_metrics(spec: dict[str, Any], task: TaskInfo) -> dict[str, Any]:
    """Return a description whose question, looks and tuning name their metrics.

    Where the task is not classification, those that name none are about the task's own.
    """
    if task.name == CLASSIFICATION:
        return spec
    usual = {
        "question": task.headline.key,
        "decide": task.headline.key,
        "tune": f"validation/{task.validation[0][0]}",
    }
    asked = spec.get("question")
    if isinstance(asked, Mapping) and isinstance(asked.get("metric"), str):
        usual["decide"] = asked["metric"]
    named = {
        part: {"metric": metric, **spec[part]}
        for part, metric in usual.items()
        if isinstance(spec.get(part), Mapping) and spec[part]
    }
    return {**spec, **named}


def check(
    question: Question,
    runs: Mapping[str, RunConfig],
    baseline: Any,
    tuned: Mapping[str, str] | None = None,
) -> None:
    """Raise UserError unless the cells can answer the question.

    Args:
        question: What is asked.
        runs: cell_key -> one of its runs; without those that others only start from.
        baseline: The sweep's own, as it was given.
        tuned: cell_key -> "tuned" or "default", of the cells whose setting is chosen.
    """
    parts = tuned or {}
    rows = {
        cell: _row(run) | ({questions.TUNE: parts[cell]} if cell in parts else {})
        for cell, run in runs.items()
    }
    _check_measured(question, runs.values())
    if question.contrasts == NAMED:
        _check_groups(question, rows)
        return
    if len(rows) < 2:
        raise UserError(
            f"question.contrasts: {question.contrasts}, but the sweep has one cell, which leaves "
            "nothing to compare"
        )
    number = len(rows)
    if question.contrasts == BASELINE:
        _check_baseline(rows, baseline)
    else:
        # The best is found among all pairs.
        number = len(rows) * (len(rows) - 1) // 2
    if number > MOST_CONTRASTS:
        raise UserError(
            f"question.contrasts: {question.contrasts} of {len(rows):,} cells are {number:,} "
            f"contrasts, expected at most {MOST_CONTRASTS:,}; name those that matter"
        )


def _row(run: RunConfig) -> dict[str, Any]:
    row = flatten(run.model_dump(mode="json"))
    return {key: value for key, value in row.items() if key not in ("seed", "replicate")}


def _check_measured(question: Question, runs: Any) -> None:
    """Raise UserError for a metric that not all cells measure."""
    for run in runs:
        task = run.task_info
        known = [one.key for one in task.metrics if one.key.startswith(OF_TEST)]
        if task.name == CLASSIFICATION:
            known += [
                f"occlusion/{shape}{fill}/area"
                for shape in run.evaluation.occlusion.shapes
                for fill in ("", "/noise")
            ]
        for metric in (question.metric, *question.margins):
            if metric not in known:
                raise unknown("metric in question", metric, known)


def _check_baseline(rows: Mapping[str, dict[str, Any]], baseline: Any) -> None:
    if baseline is not None:
        patterns = [questions.pattern_of(baseline)]
    else:
        patterns = [{_METHOD: "none"}, {_NAME: "always"}]
    for pattern in patterns:
        bases = [cell for cell, row in rows.items() if questions.fits(row, pattern)]
        if 0 < len(bases) < len(rows):
            return
    what = "no cell trains without augmentation" if baseline is None else "every cell is one"
    raise UserError(
        f"question.contrasts: baseline, but {what}, which leaves nothing to compare; name another "
        "with `baseline`, or ask for all pairs, best or named contrasts"
    )


def _check_groups(question: Question, rows: Mapping[str, dict[str, Any]]) -> None:
    taken: dict[str, str] = {}
    for name, pattern in question.groups.items():
        members = [cell for cell, row in rows.items() if questions.fits(row, pattern)]
        if not members:
            raise UserError(
                f"question.contrasts.{name}: {_shown(pattern)} names no cell of the sweep (there "
                f"are {_values(rows, pattern)})"
            )
        for cell in members:
            if cell in taken:
                raise UserError(
                    f"question.contrasts: {taken[cell]} and {name} both name the cell with "
                    f"{_shown({key: rows[cell].get(key) for key in pattern})}, expected each cell "
                    "under one name"
                )
            taken[cell] = name
    for pairing in questions.pairings(rows, question.groups):
        if not pairing.strata:
            raise UserError(
                f"question.contrasts: {pairing.name} and {pairing.against} have no cells that are "
                "alike in all else, which leaves nothing to compare"
            )


def _values(rows: Mapping[str, dict[str, Any]], pattern: Mapping[str, Any]) -> str:
    """Return the values that the cells have in the fields of a pattern."""
    parts = []
    for key in pattern:
        known = list(dict.fromkeys(_text(row.get(key)) for row in rows.values()))
        more = f", {len(known) - 12} more" if len(known) > 12 else ""
        parts.append(f"{key}: {', '.join(known[:12])}{more}")
    return "; ".join(parts)


def _shown(pattern: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {_text(value)}" for key, value in pattern.items())


def _text(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
