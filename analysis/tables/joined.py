"""Several sweeps as one table: the same names for the same settings, every run once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from mixbench.analysis.tables import recipes
from mixbench.analysis.tables.from_csv import METHOD, REPLICATE, SEED
from mixbench.analysis.tables.labels import JOIN, name_cells, value_text
from mixbench.analysis.tables.schedules import ALWAYS, NAME, TOLD_BY_NAME
from mixbench.analysis.tables.sources import Source, present
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState

SETTING, DATASET = "setting", "dataset.name"
ALL = "all"
_NO_SETTINGS = ("evaluation.batch_size", "training.devices", "dataset.split_seed")
"""Fields that change no result, or are drawn with the replicate."""
DEFAULTS = {**recipes.DEFAULTS, NAME: ALWAYS}
"""What a field means where it is not set; published tables have it filled in."""
_OF_SEEDS = 1_000_000
"""Added to seeds of sweeps without replicates: they are no replicates of those that have some."""


@dataclass(frozen=True)
class Joined:
    """The runs of several sweeps.

    Attributes:
        cells: One row per cell, as in `mixbench.analysis.tables.load.Tables`; group is the setting:
            what is the same in all runs that are compared.
        runs: As those of the sweeps, each run once, with the columns sweep, method and setting.
        names: Of the sweeps.
        differing: field -> what each sweep has, as text, of the fields that differ between them.
    """

    cells: pd.DataFrame
    runs: pd.DataFrame
    names: tuple[str, ...]
    differing: Mapping[str, tuple[str, ...]]

    @property
    def done(self) -> pd.DataFrame:
        """The rows of the finished runs."""
        return self.runs[self.runs["state"] == RunState.DONE]

    def datasets(self) -> dict[str, str]:
        """Return setting -> data set."""
        pairs = zip(self.cells["group"], self.cells[DATASET], strict=True)
        return {str(setting) or ALL: short_dataset(str(name)) for setting, name in pairs}


def short_dataset(name: str) -> str:
    """Return a data set's name without the path of an image folder."""
    kind, colon, path = name.partition(":")
    return f"{kind}:{PurePath(path).name}" if colon else kind


def join(sources: Sequence[Source]) -> Joined:
    """Put sweeps together, by what they share.

    Raises:
        UserError: A sweep has no finished run, or shares no method and no setting with another.
    """
    for source in sources:
        if not (source.runs["state"] == RunState.DONE).any():
            raise UserError(f"{source.name}: none of its {len(source.runs)} runs has finished")
    names = _names(sources)
    flat = _settings(sources)
    labels = _labels(sources, names, flat)
    _check_shared(sources, names, labels)
    frames = []
    has_replicates = [REPLICATE in source.runs for source in sources]
    for name, source in zip(names, sources, strict=True):
        runs = source.runs.copy()
        keys = runs["cell_key"].map(str)
        runs[METHOD] = [labels[key][0] for key in keys]
        runs[SETTING] = [labels[key][1] or ALL for key in keys]
        if REPLICATE not in runs and any(has_replicates):
            runs[REPLICATE] = runs[SEED] + _OF_SEEDS
        runs.insert(0, "sweep", name)
        frames.append(runs.astype(object))
    runs = pd.concat(frames, ignore_index=True)
    # Of a run that is in two sweeps, the finished one counts.
    runs["_waits"] = runs["state"] != RunState.DONE
    runs = runs.sort_values("_waits", kind="stable").drop_duplicates("run_key").sort_index()
    runs = runs.drop(columns="_waits").reset_index(drop=True)
    metrics = dict.fromkeys(name for source in sources for name in source.metric_columns)
    drawn = [name for name in (REPLICATE, SEED) if name in runs]
    runs = runs.astype({**dict.fromkeys(metrics, "float64"), **dict.fromkeys(drawn, "int64")})
    cells = _cells(flat, labels, runs)
    return Joined(cells, runs, names, _differing(sources))


def _cells(
    flat: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, tuple[str, str]],
    runs: pd.DataFrame,
) -> pd.DataFrame:
    done = runs.loc[runs["state"] == RunState.DONE, "cell_key"].value_counts()
    head = pd.DataFrame(
        {
            "cell_key": list(flat),
            "label": [JOIN.join(part for part in labels[key] if part) for key in flat],
            "method": [labels[key][0] for key in flat],
            "group": [labels[key][1] for key in flat],
            "done": [int(done.get(key, 0)) for key in flat],
        }
    )
    settings = pd.DataFrame(list(flat.values()), dtype=object)
    return pd.concat([head, settings], axis=1)


def _names(sources: Sequence[Source]) -> tuple[str, ...]:
    names: list[str] = []
    for source in sources:
        number, name = 2, source.name
        while name in names:
            name, number = f"{source.name} ({number})", number + 1
        names.append(name)
    return tuple(names)


def _labels(
    sources: Sequence[Source], names: Sequence[str], flat: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[str, str]]:
    """Return cell_key -> (method, setting), of all sweeps together.

    A setting is named by what varies within a sweep, by its data set, and, where sweeps differ in
    more than that, by the sweeps whose runs have it.
    """
    of_sweeps = [[flat[str(key)] for key in source.cells["cell_key"]] for source in sources]
    fields = dict.fromkeys(
        name for row in flat.values() for name in row if not name.startswith("augmentation.")
    )
    between = [
        name
        for name in fields
        if name != DATASET
        and all(len({value_text(row[name]) for row in rows}) == 1 for rows in of_sweeps)
        and len({value_text(row[name]) for row in flat.values()}) > 1
    ]
    regimes: dict[tuple[str, ...], list[str]] = {}
    for name, rows in zip(names, of_sweeps, strict=True):
        regimes.setdefault(tuple(value_text(rows[0][field]) for field in between), []).append(name)
    shown = [
        {name: value for name, value in row.items() if name not in between} for row in flat.values()
    ]
    found = {}
    unique: dict[str, dict[str, Any]] = {repr(sorted(row.items())): row for row in shown}
    named = dict(zip(unique, name_cells(list(unique.values())), strict=True))
    for (key, row), own in zip(flat.items(), shown, strict=True):
        label = named[repr(sorted(own.items()))]
        regime = regimes[tuple(value_text(row[field]) for field in between)]
        parts = [label.group, " and ".join(regime) if len(regimes) > 1 else ""]
        setting = JOIN.join(part for part in parts if part)
        found[key] = (label.method or str(row["augmentation.name"]), setting)
    return found


def _settings(sources: Sequence[Source]) -> dict[str, dict[str, Any]]:
    """Return cell_key -> its settings, with the same fields beside the method's own."""
    flat: dict[str, dict[str, Any]] = {}
    for source in sources:
        columns = [name for name in source.config_columns if name not in _NO_SETTINGS]
        records = source.cells[columns].to_dict("records")
        for key, record in zip(source.cells["cell_key"], records, strict=True):
            flat.setdefault(str(key), present(record))
    fields = dict.fromkeys(
        name for row in flat.values() for name in row if not name.startswith("augmentation.")
    )
    for row in flat.values():
        for name in fields:
            row[name] = DEFAULTS.get(name) if row.get(name) is None else row[name]
    return flat


def _check_shared(
    sources: Sequence[Source], names: Sequence[str], labels: Mapping[str, tuple[str, str]]
) -> None:
    own = [[labels[str(key)] for key in source.cells["cell_key"]] for source in sources]
    for place, name in enumerate(names):
        others = [label for other, of_one in enumerate(own) if other != place for label in of_one]
        methods, settings = ({label[side] for label in others} for side in (0, 1))
        if others and not any(m in methods or s in settings for m, s in own[place]):
            few = ", ".join(dict.fromkeys(method for method, _ in own[place][:3]))
            raise UserError(
                f"{name}: shares no method and no setting with the other sweeps ({few}, ...)"
            )


def _differing(sources: Sequence[Source]) -> dict[str, tuple[str, ...]]:
    fields = dict.fromkeys(name for source in sources for name in source.config_columns)
    found = {}
    for name in fields:
        if name.startswith("augmentation.") or name in (*_NO_SETTINGS, *TOLD_BY_NAME):
            continue
        texts = tuple(_values(source, name) for source in sources)
        if len(set(texts)) > 1:
            found[name] = texts
    return found


def _values(source: Source, field: str) -> str:
    values = source.cells[field].tolist() if field in source.cells else [None]
    missing = DEFAULTS.get(field)
    known = (missing if value is None or value != value else value for value in values)
    texts = list(dict.fromkeys(map(value_text, known)))
    shown = ", ".join(texts[:4])
    return f"{shown} and {len(texts) - 4} more" if texts[4:] else shown
