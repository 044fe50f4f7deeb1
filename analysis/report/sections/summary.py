"""The top of the page: what was run, and the verdict."""

from __future__ import annotations

from typing import Any

from mixbench.analysis.report.data import ReportData, short_dataset
from mixbench.analysis.statistics.units import FOLDS
from mixbench.analysis.tables.labels import factor_text, value_text
from mixbench.analysis.tables.skipped import skipped
from mixbench.analysis.text import formatting
from mixbench.analysis.text.verdict import summarise
from mixbench.experiments.text import plural

_IMAGES = {
    "to train with": "data.train",
    "without labels beside": "data.unlabelled",
    "to validate": "data.validation",
    "to test": "data.test",
    "classes": "data.classes",
}
_OPTIMISERS = {"sgd": "SGD", "adamw": "AdamW", "lamb": "LAMB", "sam": "SAM"}
_WHERE_SET = {
    "training.weight_decay": "weight decay",
    "training.schedule": "schedule",
    "training.label_smoothing": "label smoothing",
    "training.loss": "loss",
    "training.class_weights": "class weights",
    "training.sampler": "sampler",
    "training.crop": "crop",
    "training.crop_padding": "crops of",
}


def section(data: ReportData) -> dict[str, Any]:
    """Return the sweep's name, description and size, and what the statistics say."""
    setting = _setting(data)
    runs, unit = data.tables.runs, data.comparison.unit
    drawn = runs[unit].unique()
    parts = [
        setting,
        plural(len(data.tables.cells), "configuration"),
        f"{plural(len(drawn), unit)} ({formatting.seeds(map(int, drawn))})",
        f"{len(data.done)} of {len(runs)} runs done",
    ]
    if files := skipped(runs):
        parts.append(f"{plural(len(files), 'image file')} skipped")
    return {
        "name": data.folder.name,
        "description": data.folder.description,
        "line": " · ".join(parts),
        "settings": _settings(data),
        "verdict": summarise(data.comparison, setting, data.advice),
    }


def _settings(data: ReportData) -> str:
    """Return how many images there are, and how all runs train, as far as it is the same."""
    fixed = data.fixed
    sizes = [
        f"{amount} {words}"
        for words, column in _IMAGES.items()
        if (amount := _amount(data, column))
    ]
    parts = [f"Images: {', '.join(sizes)}"] if sizes else []
    if (size := fixed.get("dataset.image_size")) is not None:
        parts.append(f"{value_text(size)} pixels")
    if (folds := fixed.get(FOLDS)) is not None:
        parts.append(f"{folds} folds")
    if (weights := fixed.get("transfer.weights")) is not None:
        origins = data.tables.origins
        parts.append(factor_text("", "transfer.weights", weights, origins))
    if "training.learning_rate" in fixed and "training.batch_size" in fixed:
        optimiser = str(fixed.get("training.optimiser") or "sgd")
        parts.append(
            f"{_OPTIMISERS.get(optimiser, optimiser)} at a rate of "
            f"{fixed['training.learning_rate']:g}, batches of {fixed['training.batch_size']}"
        )
    parts += [
        f"{words} {value_text(fixed[key])}"
        for key, words in _WHERE_SET.items()
        if fixed.get(key) not in (None, 0, False, "ce")
    ]
    if fixed.get("training.flip"):
        parts.append("flips")
    return "; ".join(parts) + "." if parts else ""


def _amount(data: ReportData, column: str) -> str:
    """Return a number that all runs share, or the smallest and the largest; empty without one."""
    if column not in data.tables.runs:
        return ""
    found = sorted({int(value) for value in data.done[column].dropna()})
    ends = dict.fromkeys((found[0], found[-1])) if found else {}
    return "–".join(f"{value:,}" for value in ends)


def _setting(data: ReportData) -> str:
    """Return data set, size, model and regime, as far as they are the same in all runs."""
    runs = data.tables.runs
    parts = [formatting.joined(short_dataset(name) for name in runs["dataset.name"].unique())]
    if (train := data.only_value("data.train")) is not None:
        parts.append(f"{int(train):,} training images")
    parts.append(formatting.joined(map(str, runs["model.name"].unique())))
    if (epochs := data.fixed.get("training.epochs")) is not None:
        parts.append(plural(int(epochs), "epoch"))
    return ", ".join(parts)
