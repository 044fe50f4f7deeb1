"""Write warnings: few seeds, missing runs, mixed machines, and other limits of the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.estimates import SEEDS_WANTED
from mixbench.analysis.statistics.units import FOLDS, REPLICATE, unit_of
from mixbench.analysis.tables.labels import value_text
from mixbench.analysis.tables.plugins import PluginUse
from mixbench.analysis.tables.schedules import PHASES
from mixbench.analysis.tables.skipped import skipped
from mixbench.analysis.tables.transfers import TEACHER, WEIGHTS
from mixbench.analysis.text.formatting import joined, seeds
from mixbench.analysis.text.plugin_warnings import plugin_warnings
from mixbench.analysis.text.regime_warnings import regime_warnings
from mixbench.experiments.design.stream_names import ALGORITHM
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import plural

_SHOULD_BE_EQUAL = {
    "provenance.device": "devices",
    "provenance.torch": "versions of torch",
    "provenance.mixbench": "versions of mixbench",
    "provenance.commit": "commits",
}

_ASKED_BY = {
    "test/agreement": TEACHER,
    "teacher/accuracy": TEACHER,
    "unlabelled/confident": ALGORITHM,
}
"""The field without which a run does not measure a metric."""
_COMMIT = r"^([0-9a-f]{10})[0-9a-f]{30}\b"


def caveats(
    comparison: Comparison,
    runs: pd.DataFrame,
    spec: Mapping[str, Any],
    pretraining: pd.DataFrame | None = None,
    plugins: Sequence[PluginUse] = (),
) -> list[str]:
    """Return all warnings of a report, the gravest first.

    pretraining: the runs that are there only because others start from them.
    """
    warnings = [*_skipped(runs), *_missing(comparison.cells, runs), *plugin_warnings(plugins)]
    warnings += regime_warnings(comparison, runs)
    warnings += [*_fallback(runs, spec), *_few_seeds(comparison), *_folds(runs, spec)]
    warnings += [*_pretraining(pretraining), *_weights(runs, pretraining), *_plateaus(runs)]
    if comparison.note:
        warnings.append(f"No differences are tested: {comparison.note}.")
    warnings += [*_unpaired(comparison), *_differing(runs), *_undefined(comparison, runs)]
    return warnings


def why_missing(rows: pd.DataFrame) -> str:
    """Say why runs have no result: one clause per state, with the seeds and the errors."""
    parts = []
    failed = rows[rows["state"] == RunState.FAILED]
    for error, group in failed.groupby("failure", sort=False):
        parts.append(f"{_seeds(group)} failed ({error})")
    for state, words in ((RunState.RUNNING, "still running"), (RunState.WAITING, "not begun")):
        group = rows[rows["state"] == state]
        if len(group):
            parts.append(f"{_seeds(group)} {words}")
    return "; ".join(parts)


def _skipped(runs: pd.DataFrame) -> list[str]:
    files = skipped(runs)
    if not files:
        return []
    some = [f"{name} ({reason})" if reason else name for name, reason in sorted(files.items())]
    more = f" and {len(some) - 3:,} more" if len(some) > 3 else ""
    return [
        f"{plural(len(files), 'image file')} skipped: {'; '.join(some[:3])}{more}. "
        "The command “mixbench inspect FOLDER” names them all."
    ]


def _missing(cells: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    warnings = []
    not_begun = []
    lacking = {
        str(key): rows for key, rows in runs[runs["state"] != RunState.DONE].groupby("cell_key")
    }
    for cell in cells.itertuples():
        rows = lacking.get(str(cell.cell_key))
        if rows is None:
            continue
        if len(rows) == cell.planned and set(rows["state"]) == {RunState.WAITING}:
            not_begun.append(str(cell.label))
            continue
        what = "no run" if len(rows) == cell.planned else f"{cell.done} of {cell.planned} runs"
        warnings.append(f"{cell.label}: {what} finished; {why_missing(rows)}.")
    if not_begun:
        which = "configuration" if len(not_begun) == 1 else "configurations"
        names = joined(f"“{name}”" for name in not_begun)
        warnings.append(f"No run of the {which} {names} has begun.")
    if len(warnings) > 1:
        done = int((runs["state"] == RunState.DONE).sum())
        warnings.insert(0, f"The sweep is not complete: {done} of {len(runs)} runs are done.")
    return warnings


def _fallback(runs: pd.DataFrame, spec: Mapping[str, Any]) -> list[str]:
    if "digits" not in set(runs["dataset.name"]):
        return []
    asked = _asked_dataset(spec)
    instead = f", used in place of {asked}" if asked not in (None, "digits") else ""
    return [
        f"The data are scikit-learn's digits{instead}: 1,797 images of 8×8 pixels. They show that "
        "everything works, and little about the methods."
    ]


def _asked_dataset(spec: Mapping[str, Any]) -> str | None:
    fixed = spec.get("fixed")
    section = fixed.get("dataset") if isinstance(fixed, Mapping) else None
    if isinstance(section, Mapping):
        section = section.get("name")
    if section is None and isinstance(fixed, Mapping):
        section = fixed.get("dataset.name")
    return section if isinstance(section, str) else None


def _few_seeds(comparison: Comparison) -> list[str]:
    unit, headline = comparison.unit, comparison.headline.key
    if not any(metric.key == headline for metric in comparison.metrics):
        return []
    counts = [comparison.estimates[key, headline].n for key in comparison.cells["cell_key"]]
    done = [count for count in counts if count]
    if not done or min(done) >= SEEDS_WANTED:
        return []
    low, high = min(done), max(done)
    if high == 1:
        return [
            f"One {unit} per cell: there are no intervals, and no difference can be shown. Use at "
            f"least {SEEDS_WANTED} {unit}s."
        ]
    have = plural(low, unit) if low == high else f"{low} to {plural(high, unit)}"
    single = f" A cell with one {unit} has no interval." if low == 1 else ""
    return [
        f"Only {have} per cell: the intervals are wide, a small effect will be missed, and a few "
        f"{unit}s that agree by luck can look clear. Use at least {SEEDS_WANTED}.{single}"
    ]


def _folds(runs: pd.DataFrame, spec: Mapping[str, Any]) -> list[str]:
    if FOLDS not in runs or REPLICATE not in runs or not runs[FOLDS].notna().any():
        return []
    warnings = []
    for folds in sorted({int(number) for number in runs[FOLDS].dropna()}):
        rows = runs[runs[FOLDS] == folds]
        left = rows[REPLICATE].nunique() % folds
        if left:
            warnings.append(
                f"{plural(rows[REPLICATE].nunique(), 'replicate')} of {folds} folds: some "
                f"images tested more often than others; {folds - left} more replicates make "
                "the repetition whole."
            )
    if spec.get("tune"):
        warnings.append(
            "Settings were chosen on validation images that are test images in some folds: the "
            "result of tuned methods is a little too good."
        )
    return warnings


def _unpaired(comparison: Comparison) -> list[str]:
    labels = dict(zip(comparison.cells["cell_key"], comparison.cells["label"], strict=True))
    key = comparison.metrics[0].key if comparison.metrics else ""
    who: dict[str, list[str]] = {}
    for (cell, metric), difference in comparison.differences.items():
        is_partly = difference.n > 0 and not difference.note.startswith("one pair")
        if metric == key and difference.note and is_partly:
            who.setdefault(difference.note, []).append(labels[cell])
    return [f"Differences of {joined(names)}: {note}." for note, names in who.items()]


def _differing(runs: pd.DataFrame) -> list[str]:
    warnings = []
    done = runs[runs["state"] == RunState.DONE]
    for column, words in _SHOULD_BE_EQUAL.items():
        if column in done and done[column].nunique() > 1:
            # The provenance has commits in full.
            given = done[column].dropna().astype(str)
            short = given.str.replace(_COMMIT, r"\1", regex=True)
            values = joined(
                short.unique() if short.nunique() == given.nunique() else given.unique()
            )
            warnings.append(
                f"The runs mix {words} ({values}): a paired difference may contain that."
            )
    if "data.digest" in done:
        columns = [column for column in done if str(column).startswith("dataset.")]
        digests = done.groupby([done[column].map(value_text) for column in columns])["data.digest"]
        if (digests.nunique() > 1).any():
            warnings.append(
                "Runs with the same data settings saw different data (their digests "
                "differ): don't compare them."
            )
    return warnings


def _pretraining(runs: pd.DataFrame | None) -> list[str]:
    if runs is None or runs.empty:
        return []
    return [
        f"Pretraining on {name}: {why_missing(rows)}; what starts from it is missing too."
        for name, rows in runs[runs["state"] != RunState.DONE].groupby("dataset.name", sort=False)
    ]


def _weights(runs: pd.DataFrame, pretraining: pd.DataFrame | None) -> list[str]:
    if WEIGHTS not in runs or runs[WEIGHTS].nunique(dropna=False) < 2:
        return []
    more = ""
    if pretraining is not None and not pretraining.empty:
        epochs = sorted(set(pretraining["training.epochs"]))
        more = f" ({joined(map(str, epochs), 'or')} epochs of pretraining)"
    return [
        "The runs start from different weights. They are compared after the same number of epochs, "
        f"but those that start from trained weights had more training in all{more}, and saw more "
        "images."
    ]


def _plateaus(runs: pd.DataFrame) -> list[str]:
    texts = [runs[column] for column in (PHASES, "transfer.unfreeze") if column in runs]
    if not any(column.astype(str).str.contains("plateau").any() for column in texts):
        return []
    return [
        "Validation accuracy decided when a phase began or ended at a plateau: in those runs it is "
        "no independent measure, and the moment differs between seeds. The test set was not used."
    ]


def _undefined(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    done = runs[runs["state"] == RunState.DONE]
    warnings = []
    for metric in comparison.metrics:
        # Runs without a teacher can't agree with one.
        field = _ASKED_BY.get(metric.key)
        asked = done[done[field].notna()] if field in done else done
        lacking = asked[~asked[metric.key].map(is_number)]
        if len(lacking):
            who = joined(dict.fromkeys(lacking["label"]))
            warnings.append(
                f"{metric.title} is undefined in {plural(len(lacking), 'run')} ({who})."
            )
    return warnings


def _seeds(rows: pd.DataFrame) -> str:
    unit = unit_of(rows)
    return f"{unit}{'' if len(rows) == 1 else 's'} {seeds(rows[unit])}"
