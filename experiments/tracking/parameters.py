"""The parameters of a sweep's runs as MLflow takes them, and the name of each run."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from mixbench.experiments.design import stream_names
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.tracking import sections

ABSENT = "-"
"""The value of a parameter that a method does not have: MLflow's filters and its grouping drop
runs that lack a parameter, so every run has all of them."""

CELL_NAME, ORDER = "cell", "mixbench.order"
"""Tags of cells and their runs: to group by, and to sort by."""
COLOURS = (
    "#077A9D",
    "#FFAB00",
    "#00A972",
    "#D01F0B",
    "#914B9F",
    "#8BCAE7",
    "#BA7B23",
    "#99DDB4",
    "#BF7080",
    "#5F5F5F",
)
"""Of MLflow's own palette; its page gives every run another one, which hides the cells."""
MAX_PARAM, MAX_NAME = 6000, 250
_INVALID = re.compile(r"[^\w\-. :/]", re.ASCII)


class Plan:
    """The planned runs of a sweep: the parameters that they share, and their names."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self.runs = list(runs)
        self._flat = {run.run_key: flatten(run.config) for run in self.runs}
        sections.settle(self._flat)
        keys = sorted({key for flat in self._flat.values() for key in flat})
        self._valid = {key: valid_name(key) for key in keys}
        origins = sections.origins(self.runs)
        self._names = _names(self._flat, origins)
        self.cells: dict[str, list[PlannedRun]] = {}
        for run in self.runs:
            self.cells.setdefault(run.cell_key, []).append(run)
        self._cells = {key: self._common(runs) for key, runs in self.cells.items()}
        self._cell_names = _names(self._cells, origins, of_cells=True)
        self._numbers = {key: number for number, key in enumerate(self.cells, 1)}
        self._places = {
            run.run_key: f"{self._numbers[key]:05d}.{place:05d}"
            for key, runs in self.cells.items()
            for place, run in enumerate(runs, 1)
        }

    def params(self, run_key: str) -> dict[str, str]:
        """Every parameter that any run of the sweep has."""
        flat = self._flat[run_key]
        return {
            valid: _text(flat[key]) if key in flat else ABSENT for key, valid in self._valid.items()
        }

    @cached_property
    def fixed(self) -> dict[str, str]:
        """The parameters that have one value in the whole sweep."""
        if not self.runs:
            return {}
        params = self.params(self.runs[0].run_key)
        for run in self.runs[1:]:
            params_here = self.params(run.run_key)
            params = {key: value for key, value in params.items() if params_here[key] == value}
        return params

    def name(self, run_key: str) -> str:
        """The method, what sets the run apart from the others of that method, and the seed."""
        return self._names[run_key]

    def cell_name(self, cell_key: str) -> str:
        """The name that the runs of a cell have in common."""
        return self._cell_names[cell_key]

    def cell_params(self, cell_key: str) -> dict[str, str]:
        """The parameters of a cell: as its runs have them, ABSENT where a run has its own."""
        flat = self._cells[cell_key]
        return {
            valid: _text(flat[key]) if key in flat else ABSENT for key, valid in self._valid.items()
        }

    def place(self, run: PlannedRun) -> dict[str, str]:
        """Tags of a run: the cell that it belongs to, and where in the table it stands."""
        return {**self.cell_place(run.cell_key), ORDER: self._places[run.run_key]}

    def cell_place(self, cell_key: str) -> dict[str, str]:
        """Tags of a cell: its name, and where in the table it stands, above its runs."""
        return {CELL_NAME: self._cell_names[cell_key], ORDER: f"{self._numbers[cell_key]:05d}"}

    def colour(self, cell_key: str) -> str:
        """The colour that a cell and its runs have in MLflow's charts."""
        return COLOURS[(self._numbers[cell_key] - 1) % len(COLOURS)]

    @cached_property
    def varying(self) -> list[str]:
        """The parameters that tell cells apart, those of the method first."""
        keys = _differing(list(self._cells.values()))
        first = (stream_names.ALGORITHM, stream_names.MIXING)
        keys.sort(key=lambda key: (not key.startswith("augmentation."), key not in first))
        return [self._valid[key] for key in keys]

    @cached_property
    def occlusion_shapes(self) -> list[str]:
        """The shapes that hide a part of the test images, in any run."""
        shapes = (config.get("evaluation.occlusion.shapes") for config in self._flat.values())
        return list(dict.fromkeys(str(one) for some in shapes for one in some or ()))

    def _common(self, runs: Sequence[PlannedRun]) -> dict[str, Any]:
        """Return what the runs of a cell have in common, however many there will be."""
        first = self._flat[runs[0].run_key]
        # A cell is to have the same parameters when it grows: MLflow can't change one.
        own = _own(first)
        return {key: value for key, value in first.items() if key not in own}


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def valid_name(name: str) -> str:
    """`name` as MLflow accepts it for a metric, parameter or tag."""
    return _INVALID.sub("_", name).strip("/")[:MAX_NAME]


def _text(value: Any) -> str:
    """A parameter's value as a sweep's YAML has it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:MAX_PARAM]


def _short(value: Any) -> str:
    """As `_text`, but of a method that is made of methods their names alone."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return "+".join(str(one.get("name")) for one in value)
    return _text(value)


def _names(
    flat: dict[str, dict[str, Any]], origins: Mapping[str, str], of_cells: bool = False
) -> dict[str, str]:
    flat = dict(zip(flat, stream_names.for_names(list(flat.values())), strict=True))
    has_streams = any(stream_names.UNLABELLED in config for config in flat.values())
    by_method: dict[Any, list[str]] = {}
    for run_key, config in flat.items():
        by_method.setdefault(config.get("augmentation.name"), []).append(run_key)
    names = {}
    for method, run_keys in by_method.items():
        differing = _differing([flat[run_key] for run_key in run_keys])
        differing.sort(key=lambda key: key != stream_names.UNLABELLED)
        labels = _labels(differing)
        for run_key in run_keys:
            config = flat[run_key]
            parts = [
                sections.phrase(key, config[key], origins) or f"{labels[key]}{_short(config[key])}"
                for key in differing
                if config.get(key) is not None
                and key not in _own(config)
                and sections.is_in_names(key, config)
            ]
            # Where the streams alone differ, they are the method.
            head = [] if has_streams and len(by_method) == 1 else [str(method)]
            parts = [*head, *parts, *([] if of_cells else _number(config))]
            names[run_key] = " ".join(parts)[:MAX_NAME]
    return names


def _own(config: Mapping[str, Any]) -> set[str]:
    """Return the parameters in which the runs of one cell differ."""
    replicated = config.get("replicate") is not None
    return {"seed", "replicate", *(["dataset.split_seed"] if replicated else [])}


def _number(config: Mapping[str, Any]) -> list[str]:
    """Return which run of its cell it is, in words."""
    seed, replicate = config.get("seed"), config.get("replicate")
    words = [] if replicate is None else [f"replicate {replicate}"]
    return words if words and seed == replicate else [*words, f"seed {seed}"]


def _differing(configs: list[dict[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for config in configs for key in config)
    return [
        key
        for key in keys
        if key != "seed" and len({json.dumps(config.get(key, ABSENT)) for config in configs}) > 1
    ]


def _labels(keys: Iterable[str]) -> dict[str, str]:
    """ "alpha=" for augmentation.alpha, nothing for a section's name, dotted where ambiguous."""
    keys = list(keys)
    last = Counter(key.rpartition(".")[2] for key in keys)
    labels = {}
    for key in keys:
        short = key.rpartition(".")[2]
        if short == "name":
            labels[key] = ""
        else:
            labels[key] = f"{short if last[short] == 1 else key}="
    return labels
