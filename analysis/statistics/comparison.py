"""Which cell is compared with which, and what the statistics say: tables in, tables out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixbench.analysis.statistics import tests
from mixbench.analysis.statistics.tests import Difference, Estimate
from mixbench.analysis.tables.labels import JOIN, flatten, value_text
from mixbench.analysis.tables.schedules import ALWAYS, NAME, PHASES
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState

Baseline = Mapping[str, Any] | str | None


@dataclass(frozen=True)
class Metric:
    """A measure as the report shows it. better: 1 for higher, -1 for lower, 0 for neither."""

    key: str
    title: str
    percent: bool
    better: int


ACCURACY = Metric("test/accuracy", "Accuracy", True, 1)
_BEFORE = (
    ACCURACY,
    Metric("test/ece", "ECE", True, -1),
    Metric("test/gap", "Conf − acc", True, 0),
    Metric("test/nll", "NLL", False, -1),
    Metric("test/brier", "Brier", False, -1),
)
_USUAL = (("augmentation.name", "none"), (NAME, ALWAYS))
"""What others are compared with where nobody says it, the first that there is."""
_OF_MIXING = (NAME, PHASES, "transfer.mixing", "transfer.cache")
"""What says nothing of a run without augmentation."""
_AFTER = (Metric("train/accuracy", "Train accuracy", True, 0),)


@dataclass(frozen=True)
class Comparison:
    """Everything that is known about a sweep's cells, and how they differ from their baseline.

    cells: the cells with three more columns: baseline_key (None where there is none), block (cells
        that are compared with each other share it) and series (the name within the block, which
        figures colour by).
    estimates: (cell_key, metric key) -> mean and interval over seeds.
    differences: (cell_key, metric key) -> paired difference to the baseline cell; the family that
        Holm's correction is taken over is one metric over all comparisons of the sweep.
    note: why there is nothing to compare, empty otherwise.
    """

    cells: pd.DataFrame
    metrics: tuple[Metric, ...]
    estimates: Mapping[tuple[str, str], Estimate]
    differences: Mapping[tuple[str, str], Difference]
    note: str

    @property
    def has_baseline(self) -> bool:
        return bool(self.differences)


def compare(
    cells: pd.DataFrame,
    runs: pd.DataFrame,
    spec_baseline: Baseline = None,
    baseline: Baseline = None,
) -> Comparison:
    """Estimates for every cell and differences to the baseline cells.

    baseline: dotted keys and the values that make a cell the baseline; a text "none" means
    {"augmentation.name": "none"}, a text "key=value,key=value" the mapping. It goes before
    `spec_baseline`, which goes before augmentation "none". UserError when `baseline` fits no cell,
    or several that would serve one cell; `spec_baseline` then only leaves a note.
    """
    metrics = _metrics(runs)
    assigned, note = _assign(cells, spec_baseline, baseline)
    cells = _with_blocks(cells, assigned)
    values = {
        (str(cell_key), metric.key): dict(zip(rows["seed"], rows[metric.key], strict=True))
        for cell_key, rows in runs[runs["state"] == RunState.DONE].groupby("cell_key")
        for metric in metrics
    }
    estimates = {
        (cell_key, metric.key): tests.estimate(
            list(values.get((cell_key, metric.key), {}).values())
        )
        for cell_key in cells["cell_key"]
        for metric in metrics
    }
    differences: dict[tuple[str, str], Difference] = {}
    for metric in metrics:
        family = {
            cell: (values.get((cell, metric.key), {}), values.get((base, metric.key), {}))
            for cell, base in assigned.items()
            if base is not None and base != cell
        }
        for cell, difference in tests.family(family).items():
            differences[cell, metric.key] = difference
    if not differences and not note:
        note = "every cell is its own baseline; another can be named with --baseline"
    return Comparison(cells, metrics, estimates, differences, note)


def blocks(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The cells that are compared with each other, and what they have in common, if there is more
    than one such block."""
    found = [members for _, members in cells.groupby("block", sort=False)]
    if len(found) == 1:
        return [("", found[0])]
    # Without a name of its own a block would seem to belong to the one above it.
    return [(members["title"].iloc[0] or "others", members) for members in found]


def occlusion_summary(curves: pd.DataFrame) -> pd.DataFrame:
    """Occlusion curves over seeds: cell_key, shape, fraction, mean, low, high, n."""
    rows = []
    for (cell, shape, _), points in curves.groupby(["cell_key", "shape", "point"], sort=False):
        mean = tests.estimate(points["accuracy"].tolist())
        rows.append(
            {
                "cell_key": cell,
                "shape": shape,
                "fraction": points["fraction"].mean(),
                "mean": mean.mean,
                "low": mean.low,
                "high": mean.high,
                "n": mean.n,
            }
        )
    columns = ["cell_key", "shape", "fraction", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def pooled_reliability(bins: pd.DataFrame) -> pd.DataFrame:
    """Reliability bins with the images of all seeds together: cell_key, low, high, count,
    confidence, accuracy (the last two NaN where no image fell)."""
    rows = []
    for (cell, _), group in bins.groupby(["cell_key", "bin"], sort=False):
        count = int(group["count"].sum())
        weighted = group[group["count"] > 0]
        row = {
            "cell_key": cell,
            "low": group["low"].iloc[0],
            "high": group["high"].iloc[0],
            "count": count,
        }
        for column in ("confidence", "accuracy"):
            total = (weighted[column] * weighted["count"]).sum()
            row[column] = total / count if count else float("nan")
        rows.append(row)
    columns = ["cell_key", "low", "high", "count", "confidence", "accuracy"]
    return pd.DataFrame(rows, columns=columns)


def parse_baseline(baseline: Baseline) -> dict[str, Any] | None:
    """A baseline in any of its spellings as dotted keys; UserError for one that says nothing."""
    if baseline is None:
        return None
    if isinstance(baseline, str) and "=" not in baseline:
        return {"augmentation.name": baseline}
    if isinstance(baseline, str):
        pairs = [part.partition("=") for part in baseline.split(",")]
        baseline = {key.strip(): _read_value(value.strip()) for key, _, value in pairs}
    if not isinstance(baseline, Mapping) or not baseline:
        raise UserError(
            f"baseline: got {baseline!r}, expected keys and values, such as augmentation.name=none"
        )
    if isinstance(baseline.get("augmentation"), str):
        baseline = {**baseline, "augmentation": {"name": baseline["augmentation"]}}
    if "staging" in baseline and not isinstance(baseline["staging"], Mapping):
        baseline = {**baseline, "staging": {"name": baseline["staging"] or ALWAYS}}
    return flatten(baseline)


def _read_value(text: str) -> Any:
    constants = {"true": True, "false": False, "null": None, "default": None}
    if text.lower() in constants:
        return constants[text.lower()]
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def _metrics(runs: pd.DataFrame) -> tuple[Metric, ...]:
    shapes = [
        column.split("/")[1]
        for column in runs.columns
        if column.startswith("occlusion/") and column.endswith("/area")
    ]
    occlusion = [
        Metric(f"occlusion/{shape}/area", f"Occlusion area, {shape}", True, 1) for shape in shapes
    ]
    known = [*_BEFORE, *occlusion, *_AFTER]
    return tuple(metric for metric in known if metric.key in runs.columns)


def _assign(
    cells: pd.DataFrame, spec_baseline: Baseline, baseline: Baseline
) -> tuple[dict[str, str | None], str]:
    """cell_key -> the cell_key of its baseline, None where there is none; and what to say."""
    nobody: dict[str, str | None] = dict.fromkeys(cells["cell_key"])
    if baseline is not None:
        return _match(cells, parse_baseline(baseline) or {}), ""
    if spec_baseline is not None:
        try:
            return _match(cells, parse_baseline(spec_baseline) or {}), ""
        except UserError as error:
            return nobody, f"the sweep's {error}"
    for key, value in _USUAL:
        if key in cells and value in set(cells[key]) and (key != NAME or cells[key].nunique() > 1):
            try:
                return _match(cells, {key: value}), ""
            except UserError as error:
                return nobody, str(error)
    return nobody, "no cell trains without augmentation, and the sweep names no other baseline"


def _match(cells: pd.DataFrame, wanted: Mapping[str, Any]) -> dict[str, str | None]:
    config = [column for column in cells.columns if "." in column]
    shown = ", ".join(f"{key}={value_text(value)}" for key, value in wanted.items())
    for key in wanted:
        if key not in config:
            varying = [column for column in config if cells[column].nunique(dropna=False) > 1]
            raise UserError(
                f"baseline: no cell has the field {key!r}; what varies: {', '.join(varying)}"
            )
    rows = cells[["cell_key", "label", *config]].to_dict("records")
    fitting = [row for row in rows if all(_same(row[k], value) for k, value in wanted.items())]
    if not fitting:
        values = {key: sorted({value_text(row[key]) for row in rows}) for key in wanted}
        have = "; ".join(f"{key}: {', '.join(texts)}" for key, texts in values.items())
        raise UserError(f"baseline: {shown} fits no cell of the sweep (there are {have})")
    # First only the wanted fields may differ; then their whole sections, because the parameters
    # of one method are not those of another.
    narrow = [key for key in config if key not in wanted]
    sections = {key.partition(".")[0] for key in wanted}
    wide = [key for key in config if key.partition(".")[0] not in sections]
    wider = [key for key in wide if "augmentation" not in sections or key not in _OF_MIXING]
    assigned: dict[str, str | None] = {}
    for row in rows:
        for fields in (narrow, wide, wider):
            found = [base for base in fitting if all(_same(base[f], row[f]) for f in fields)]
            if found:
                break
        own = [base for base in found if base["cell_key"] == row["cell_key"]]
        if len(found) > 1 and not own:
            names = ", ".join(repr(base["label"]) for base in found)
            raise UserError(f"baseline: {shown} fits several cells ({names}); name one field more")
        assigned[row["cell_key"]] = (own or found)[0]["cell_key"] if found else None
    return assigned


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other) or (pd.isna(one) and pd.isna(other))


def _with_blocks(cells: pd.DataFrame, assigned: Mapping[str, str | None]) -> pd.DataFrame:
    cells = cells.copy()
    cells["baseline_key"] = pd.Series([assigned[key] for key in cells["cell_key"]], dtype=object)
    if not any(assigned.values()) and cells["method"].nunique() == 1:
        cells["block"] = 0  # one method, several settings: side by side, though nobody's baseline
    else:
        pairs = zip(cells["cell_key"], cells["group"], strict=True)
        roots = [assigned[cell] or f"group {group}" for cell, group in pairs]
        cells["block"] = pd.factorize(pd.Series(roots, dtype=object))[0]
    parts = [[part for part in group.split(JOIN) if part] for group in cells["group"]]
    shared: dict[int, list[str]] = {}
    for block, own in zip(cells["block"], parts, strict=True):
        shared[block] = [part for part in shared.get(block, own) if part in own]
    titles = [shared[block] for block in cells["block"]]
    cells["title"] = [JOIN.join(title) for title in titles]
    rest = [
        JOIN.join([method, *(part for part in own if part not in title)]) if method else label
        for method, label, own, title in zip(
            cells["method"], cells["label"], parts, titles, strict=True
        )
    ]
    cells["series"] = rest
    return cells
