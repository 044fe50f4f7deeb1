"""Publish a report: copy it to a folder that is committed, such as `results/demo`.

Only reproducible reports are published: all runs are done, their commits are known, and no code
had uncommitted changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mixbench.analysis.report.build import Report
from mixbench.analysis.report.files import CSV, MARKDOWN, write_files
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import evaluations, provenance
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import plural

_MOST_NAMED = 3


def check_publishable(sweep: SweepFolder, target: Path) -> None:
    """Raise UserError with all reasons in one line if the report must not be published."""
    problems = [*_folder_problems(target), *_checkout_problems(), *_run_problems(sweep)]
    if problems:
        raise UserError(
            f"{sweep.name!r} is not published to {str(target)!r}: {'; '.join(problems)}"
        )


def publish(report: Report, target: Path) -> tuple[Path, ...]:
    """Copy a report, in place of an earlier one; return the paths of its files."""
    names = [path.relative_to(report.folder).as_posix() for path in reversed(report.paths)]
    write_files(target, {name: (report.folder / name).read_bytes() for name in names})
    return tuple(target / name for name in names)


def _folder_problems(target: Path) -> list[str]:
    if not target.exists():
        return []
    if (target / MARKDOWN).is_file() and (target / CSV).is_file():
        return []
    return [f"it exists and is not a published report, with {MARKDOWN} and {CSV}"]


def _checkout_problems() -> list[str]:
    commit = provenance.commit()
    if commit is None:
        return ["the commit of this mixbench is unknown, as it is not run from a checkout"]
    if commit.endswith(provenance.CHANGED):
        return ["the checkout has uncommitted changes; commit them"]
    return []


def _run_problems(sweep: SweepFolder) -> list[str]:
    plan = sweep.plan()
    results = [(run, run.folder.result()) for run in plan]
    missing = [run.run_key for run, result in results if result is None and run.stopped_at is None]
    commits = [
        (name, provenance.get("commit"))
        for run, result in results
        if result is not None
        for name, provenance in _origins(run, result)
    ]
    unknown = [name for name, commit in commits if not commit]
    changed = [name for name, commit in commits if str(commit).endswith(provenance.CHANGED)]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {plural(len(plan), 'run')} not done ({_few(missing)})")
    if unknown:
        problems.append(f"the commit of {plural(len(unknown), 'result')} unknown ({_few(unknown)})")
    if changed:
        problems.append(
            f"{plural(len(changed), 'result')} from a tree with uncommitted changes "
            f"({_few(changed)}); run them again"
        )
    return problems


def _origins(run: PlannedRun, result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the provenance of a run's result and of its later measurements."""
    later = evaluations.read(run.folder).items()
    return [
        (run.run_key, result.get("provenance") or {}),
        *((f"{run.run_key}, {name}", values.get("provenance") or {}) for name, values in later),
    ]


def _few(names: Iterable[str]) -> str:
    listed = list(dict.fromkeys(names))
    rest = len(listed) - _MOST_NAMED
    return ", ".join(listed[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
