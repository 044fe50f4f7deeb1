"""A CSV of anybody's results as observations: method, replicate, factors and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mixbench.experiments.errors import UserError, did_you_mean

METHOD, REPLICATE, SEED = "method", "replicate", "seed"
DATASET, PROTOCOL, SOURCE = "dataset", "protocol", "source"
_HIGHER = ("accuracy", "acc", "auroc", "auc", "aupr", "f1", "miou", "iou", "map", "map50", "recall")
_LOWER = ("ece", "nll", "brier", "loss", "error", "fpr95", "mse", "mae", "perplexity")
_ACCURACIES = ("accuracy", "acc", "balanced_accuracy", "recall_at_1", "top1", "top5")


@dataclass(frozen=True)
class Observations:
    """The rows of a CSV.

    Attributes:
        rows: method (text), replicate (int), seed (int, where there is one), the factors (text)
            and the metrics (float; NaN where empty).
        factors: What else varies; cells that differ in them are not compared.
        metrics: The metrics, in the order of the columns.
        notes: What was decided about the columns, to be shown.
        published: The rows without a replicate: numbers of others, which are shown beside the
            observations and compared with nothing. Columns as in `rows`, `protocol` and `source`
            as text.
    """

    rows: pd.DataFrame
    factors: tuple[str, ...]
    metrics: tuple[str, ...]
    notes: tuple[str, ...]
    published: pd.DataFrame = field(default_factory=pd.DataFrame)


def is_lower_better(metric: str) -> bool:
    """Tell from a metric's name whether lower is better.

    Examples:
        >>> is_lower_better("test/ece"), is_lower_better("accuracy")
        (True, False)
    """
    return _last(metric) in _LOWER or _last(metric).endswith(("_error", "_loss", "_nll", "_ece"))


def margin_of(metric: str) -> float | None:
    """Return the smallest difference that matters, from a metric's name; None if unknown.

    Examples:
        >>> margin_of("test/accuracy"), margin_of("fps")
        (0.005, None)
    """
    name = _last(metric)
    known = {"ece": 0.01, "nll": 0.02, "brier": 0.01, "error": 0.005}
    return 0.005 if is_accuracy(name) else known.get(name)


def read_csv(path: Path, *, published_alone: bool = False) -> Observations:
    """Read a CSV of results.

    Columns: `method` and `replicate` (or `seed`), optionally both, `dataset` and further factors,
    and one column per metric. A column is a metric if its name is a metric's or holds a slash
    (`test/accuracy`), or if its numbers hardly ever repeat; else it is a factor. A row whose
    replicate is empty is a published number; `protocol` says how it was come by, `source` where
    it is from.

    Args:
        path: Of the file.
        published_alone: Whether all rows may be published numbers, or the column `replicate` be
            missing.

    Raises:
        UserError: The file can't be read, a column is missing, a value is not a number, an
            accuracy is not a fraction, or a run is there twice.
    """
    rows = _load(path)
    if published_alone and REPLICATE not in rows.columns:
        rows[REPLICATE] = ""
    for column in (METHOD, REPLICATE):
        if column not in rows.columns:
            guess = did_you_mean(column, list(map(str, rows.columns)))
            raise UserError(
                f"{path}: no column {column!r}{guess}; expected method, replicate (or seed), and "
                f"one column per metric; it has {', '.join(map(repr, rows.columns))}"
            )
    rows[METHOD] = _texts(rows[METHOD], METHOD, path)
    others = [name for name in rows.columns if name not in (METHOD, REPLICATE, SEED)]
    metrics = tuple(name for name in others if _is_metric(rows, name))
    factors = tuple(name for name in others if name not in metrics)
    if not metrics:
        raise UserError(
            f"{path}: no column is a metric; expected one such as 'accuracy' or 'test/ece', "
            f"got {', '.join(map(repr, others)) or 'none'}"
        )
    for name in metrics:
        rows[name] = _numbers(rows[name], name, path)
    for name in factors:
        rows[name] = _texts(rows[name], name, path)
    is_published = rows[REPLICATE].str.strip() == ""
    published, rows = rows[is_published], rows[~is_published].copy()
    if rows.empty and not published_alone:
        raise UserError(
            f"{path}: no row has a replicate, so there is nothing to compare; published numbers "
            "are shown beside a sweep: mixbench report SWEEP --from csv:FILE --out DIR"
        )
    for column in (REPLICATE, SEED):
        if column in rows:
            rows[column] = _whole_numbers(rows[column], column, path)
    # What says no more than where all rows are from is no factor.
    factors = tuple(
        name for name in factors if name not in (PROTOCOL, SOURCE) or rows[name].nunique() > 1
    )
    _check_once(rows, factors, path)
    notes = [f"metrics: {', '.join(metrics)}"]
    if factors:
        notes.append(f"compared within each {' and '.join(factors)}")
    if len(published):
        notes.append(f"{len(published)} published numbers beside them")
    return Observations(rows, factors, metrics, tuple(notes), published)


def _load(path: Path) -> pd.DataFrame:
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not readable as CSV: {reason}") from None
    rows.columns = [str(name).strip() for name in rows.columns]
    twice = [name for name in rows.columns if list(rows.columns).count(name) > 1]
    if twice:
        raise UserError(f"{path}: the column {twice[0]!r} is there twice")
    if rows.empty:
        raise UserError(f"{path}: no rows")
    if REPLICATE not in rows.columns and SEED in rows.columns:
        rows = rows.rename(columns={SEED: REPLICATE})
    return rows


def _is_metric(rows: pd.DataFrame, name: str) -> bool:
    last = _last(name)
    if "/" in name or last in _HIGHER or is_lower_better(name) or is_accuracy(last):
        return True
    numbers = pd.to_numeric(rows[name].replace("", "nan"), errors="coerce")
    texts = rows[name][numbers.isna() & (rows[name] != "")]
    if len(texts) or numbers.dropna().empty:
        return False
    replicates = rows[REPLICATE].nunique()
    return bool(numbers.nunique() > max(1, len(rows) / max(1, replicates)))


def _numbers(column: pd.Series, name: str, path: Path) -> pd.Series:
    numbers = pd.to_numeric(column.replace("", "nan"), errors="coerce")
    for row, (text, value) in enumerate(zip(column, numbers, strict=True)):
        if pd.isna(value) and text.strip().lower() not in ("", "nan"):
            raise UserError(f"{path}, line {row + 2}: {name}: got {text!r}, expected a number")
        if is_accuracy(_last(name)) and not pd.isna(value) and not 0 <= value <= 1:
            raise UserError(
                f"{path}, line {row + 2}: {name}: got {text}, expected a fraction from 0 to 1"
            )
    return numbers.astype(float)


def _whole_numbers(column: pd.Series, name: str, path: Path) -> pd.Series:
    for row, text in column.items():
        if not text.strip().lstrip("-").isdigit():
            raise UserError(
                f"{path}, line {int(str(row)) + 2}: {name}: got {text!r}, expected a whole number"
            )
    return column.astype(int)


def _texts(column: pd.Series, name: str, path: Path) -> pd.Series:
    texts = column.str.strip()
    empty = [row for row, text in enumerate(texts) if not text]
    if empty and name == METHOD:
        raise UserError(f"{path}, line {empty[0] + 2}: {name}: nothing is there")
    return texts


def _check_once(rows: pd.DataFrame, factors: tuple[str, ...], path: Path) -> None:
    keys = [METHOD, *factors, REPLICATE, *([SEED] if SEED in rows else [])]
    seen: dict[tuple[object, ...], int] = {}
    lines = zip(rows.index + 2, rows[keys].itertuples(index=False, name=None), strict=True)
    for line, key in lines:
        if key in seen:
            shown = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
            raise UserError(f"{path}, lines {seen[key]} and {line}: the same run twice ({shown})")
        seen[key] = line


def is_accuracy(name: str) -> bool:
    """Tell from a metric's name whether it is an accuracy."""
    name = _last(name)
    return name in _ACCURACIES or name.endswith("accuracy")


def _last(metric: str) -> str:
    return metric.rpartition("/")[2].lower()
