"""The set-up: what all runs share, what varies, and every method with its parameters."""

from __future__ import annotations

import re
from typing import Any

from mixbench.analysis.report.data import ReportData, short_dataset
from mixbench.analysis.statistics.units import FOLDS
from mixbench.analysis.tables.labels import factor_text, value_text
from mixbench.analysis.tables.nested_methods import in_full
from mixbench.analysis.tables.schedules import TOLD_BY_NAME
from mixbench.experiments.merge import flatten
from mixbench.experiments.text import plural


def section(data: ReportData) -> dict[str, Any]:
    """Return (term, text) of the settings and of the methods."""
    images = _images(data)
    settings = [("Images", images)] if images else []
    settings += [("Folds", text) for text in [_folds(data)] if text]
    settings += [(name.capitalize(), "; ".join(texts)) for name, texts in _shared(data).items()]
    plugins = dict.fromkeys(f"{use.distribution} {use.code}" for use in data.tables.plugins)
    if plugins:
        settings.append(("Plug-ins", "; ".join(plugins)))
    dropped = len(data.folder.dropped())
    if dropped:
        text = (
            f"{plural(dropped, 'run')} that the sweep no longer asks for; what they came to stays"
        )
        settings.append(("Left out", text))
    return {"settings": [*settings, *_varying(data)], "methods": _methods(data)}


def _images(data: ReportData) -> str:
    sizes = (
        ("training", "data.train"),
        ("validation", "data.validation"),
        ("test", "data.test"),
        ("classes", "data.classes"),
    )
    return ", ".join(
        f"{words} {int(value):,}"
        for words, column in sizes
        if (value := data.only_value(column)) is not None
    )


def _folds(data: ReportData) -> str:
    """Say what replicates are where they are folds, and what that means for intervals."""
    runs = data.tables.runs
    if FOLDS not in runs or not runs[FOLDS].notna().any():
        return ""
    folds = sorted({int(number) for number in runs[FOLDS].dropna()})
    return (
        f"replicates are folds: 1 of {' or '.join(map(str, folds))} parts of the images tests, "
        "another one in each replicate, and the others train; after all have, images are divided "
        "anew. Intervals count what the training images of folds share (Nadeau and Bengio 2003)"
    )


def _shared(data: ReportData) -> dict[str, list[str]]:
    """Return the settings that all runs share, by section of the configuration."""
    shared: dict[str, list[str]] = {}
    for key, value in data.fixed.items():
        section, _, name = key.partition(".")
        if section == "augmentation" or value is None or key in TOLD_BY_NAME:
            continue
        if section == "transfer":
            text = _factor(data, key, value)
        elif name == "name":
            text = short_dataset(value) if key == "dataset.name" else _value(value)
        else:
            text = f"{re.sub(r'[._]', ' ', name)} {_value(value)}"
        shared.setdefault(section, []).append(text)
    return shared


def _varying(data: ReportData) -> list[tuple[str, str]]:
    columns = [
        column
        for column in data.tables.config_columns
        if column not in data.fixed
        and not column.startswith("augmentation.")
        and column not in TOLD_BY_NAME
    ]
    rows = []
    for column in columns:
        values = [_factor(data, column, value) for value in data.tables.runs[column].unique()]
        rows.append((f"{column} (varies)", ", ".join(dict.fromkeys(values))))
    return rows


def _factor(data: ReportData, column: str, value: Any) -> str:
    if column.startswith("transfer."):
        return factor_text("", column, value, data.tables.origins)
    return value_text(value)


def _methods(data: ReportData) -> list[tuple[str, str]]:
    """Return every augmentation of the sweep with all its parameters."""
    methods: dict[str, str] = {}
    configs = {run.cell_key: run.config for run in data.folder.plan()}
    for cell in data.comparison.cells.itertuples():
        parameters = flatten(configs[str(cell.cell_key)]["augmentation"])
        name = parameters.pop("name")
        texts = []
        if "methods" in parameters:
            nested = parameters.pop("methods")
            texts.append(in_full(nested, {**parameters, "name": name}, _parameter))
        texts += [_parameter(key, value) for key, value in parameters.items()]
        methods.setdefault(str(cell.method or name), "; ".join(texts) or "no parameters")
    return list(methods.items())


def _parameter(key: str, value: Any) -> str:
    return f"{key.replace('_', ' ')} {_value(value)}"


def _value(value: Any) -> str:
    """Return a configuration's value as text; a list without its brackets and quotes."""
    text = value_text(value)
    return (re.sub(r"[\[\]\"]", "", text) or "none given") if text.startswith("[") else text
