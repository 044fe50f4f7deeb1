"""Short names for the cells of a sweep, made of what varies in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mixbench.analysis.tables import recipes, schedules, streams, transfers, tuned
from mixbench.analysis.tables.nested_methods import KEY, short_names
from mixbench.experiments.design import stream_names
from mixbench.experiments.design.question import TUNE
from mixbench.experiments.merge import flatten
from mixbench.experiments.store.run_folder import PlannedRun

JOIN = " · "
EMPTY = "[]"
INTERVAL = "training.validate_every"
"""How often a run validates, which changes nothing in how it trains."""
_SYMBOLS = {"alpha": "α", "beta": "β"}
_SECTIONS = ("augmentation", "model", "dataset", "transfer", "teacher", "staging")
_DECIDES = {
    "transfer": transfers.WEIGHTS,
    "teacher": transfers.TEACHER,
    "staging": "augmentation.name",
}
"""The field that those of a section depend on, where that is not the section's name."""
_RESOLVED_BY_DATASET = (
    "dataset.image_size",
    "dataset.fit",
    "training.crop",
    "training.crop_padding",
    "training.flip",
)

Flat = Mapping[str, Any]


@dataclass(frozen=True)
class Label:
    """`method` is the augmentation's part of the name, `group` the rest (either may be empty)."""

    method: str
    group: str

    @property
    def text(self) -> str:
        return JOIN.join(part for part in (self.method, self.group) if part)


def settings(configs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Flatten the configurations of a sweep, all with the same fields of staging and transfer.

    Schedules without a name get one. Fields of a section that no configuration uses are left out.
    """
    flat = [flatten(of_cell(config)) for config in configs]
    schedules.named(flat)
    transfers.spread(flat)
    streams.spread(flat)
    recipes.spread(flat)
    return flat


def of_cell(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration with what its cell has in place of its replicate's split seed."""
    replicate = config.get("replicate")
    if replicate is None:
        return {key: value for key, value in config.items() if key != "replicate"}
    dataset = {**config["dataset"], "split_seed": config["dataset"]["split_seed"] - replicate}
    rest = {key: value for key, value in config.items() if key != "replicate"}
    return {**rest, "dataset": dataset}


def cell_labels(
    configs: Mapping[str, Mapping[str, Any]], origins: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return cell_key -> label, from the nested configuration of one run of each cell."""
    flat = [
        {key: value for key, value in config.items() if key != "seed"}
        for config in settings(configs.values())
    ]
    labels = name_cells(flat, origins_of(configs) if origins is None else origins)
    return dict(zip(configs, (label.text for label in labels), strict=True))


def plan_labels(plan: Iterable[PlannedRun]) -> dict[str, str]:
    """Return cell_key -> label of all cells of a plan, those that tune a method by their values."""
    configs: dict[bool, dict[str, Mapping[str, Any]]] = {False: {}, True: {}}
    for run in plan:
        configs[run.part == "tuning"].setdefault(run.cell_key, tuned.of_cell(run))
    if not configs[True]:
        return cell_labels(configs[False])
    origins = origins_of({**configs[True], **configs[False]})
    tried = cell_labels(configs[True], origins)
    return {key: f"{label} (tuning)" for key, label in tried.items()} | cell_labels(
        configs[False], origins
    )


def origins_of(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return cell_key -> name, for the cells whose weights others start from."""
    needed = {
        str((config.get(section) or {}).get("weights") or "").removeprefix("cell:")
        for config in configs.values()
        for section in transfers.SECTIONS
    }
    return transfers.origins({key: configs[key] for key in configs if key in needed})


def name_cells(configs: Sequence[Flat], origins: Mapping[str, str] | None = None) -> list[Label]:
    """Return a label for each flattened configuration (without seed); different ones differ.

    The augmentation is named when it varies or when nothing does; of its parameters, those that
    vary among the cells of the same method. Further factors follow as "key value". origins: what
    the cells that others start from are called.
    """
    origins = origins or {}
    configs = stream_names.for_names(recipes.for_names(configs))
    used = dict.fromkeys(key for config in configs for key in config)
    told = (*schedules.TOLD_BY_NAME, "model.source", "dataset.source")
    keys = [key for key in used if key not in told]
    varying = [key for key in keys if _distinct(configs, key) > 1]
    parameters = [key for key in varying if _section(key) == "augmentation"]
    factors = [key for key in varying if key not in parameters and not _implied(configs, key)]
    others = [key for key in factors if key != INTERVAL]
    if INTERVAL in factors and _follows(configs, INTERVAL, others):
        factors = others
    methods = _method_texts(configs, parameters)
    has_method = bool(parameters) or not factors
    short = _short_names(factors)
    omitted = {key: _omitted_for(configs, key) for key in factors}
    labels = []
    for config, method in zip(configs, methods, strict=True):
        rest = [
            factor_text(short[key], key, config.get(key), origins)
            for key in factors
            if not _is_omitted(omitted[key], key, config)
        ]
        labels.append(Label(method if has_method else "", JOIN.join(rest)))
    return _told_apart(labels, configs, varying, origins)


def _method_texts(configs: Sequence[Flat], varying: Sequence[str]) -> list[str]:
    """Return each configuration's method, with the parameters that vary within that method."""
    # Once per method, not per cell: there may be thousands.
    shown: dict[str, list[str]] = {}
    nested: dict[str, dict[str, str]] = {}
    for method, cells in _grouped(configs, "augmentation.name").items():
        nested[method] = short_names(cells, _parameter)
        shown[method] = [
            key
            for key in varying
            if key != "augmentation.name"
            and (nested[method] if key == KEY else _distinct(cells, key) > 1)
        ]
        shown[method].sort(key=lambda key: key != KEY)
    of_tuned = {method: _shown_if_tuned(configs, method, keys) for method, keys in shown.items()}
    texts = []
    for config in configs:
        method = config["augmentation.name"]
        told = of_tuned[method] if config.get(TUNE) else shown[method]
        # An empty list counts as a missing parameter.
        keys = [key for key in told if config.get(key, EMPTY) != EMPTY]
        parts = [
            nested[method][config[key]] if key == KEY else _parameter(key, config[key])
            for key in keys
        ]
        texts.append(" ".join([str(method), *parts]))
    return texts


def _shown_if_tuned(configs: Sequence[Flat], method: str, keys: Sequence[str]) -> list[str]:
    """Return the parameters that tell cells of a method apart whose settings are chosen.

    Not what was chosen: the cell is "cutmix tuned" whatever it was.
    """
    of_method = [config for config in configs if config["augmentation.name"] == method]
    others = [key for key in keys if key != TUNE]
    for part in ("default", "tuned"):
        if cells := [config for config in of_method if config.get(TUNE) == part]:
            return [TUNE, *(key for key in others if _distinct(cells, key) > 1)]
    return others


def setting_text(values: Mapping[str, Any]) -> str:
    """Return the values of a setting as labels have them, such as "prob=0.5 α=1"."""
    return " ".join(
        _parameter(key, json.dumps(value) if isinstance(value, list) else value)
        if _section(key) == "augmentation"
        else f"{key.rpartition('.')[2]}={value_text(value)}"
        for key, value in values.items()
    )


def value_text(value: Any) -> str:
    """Return a value as a person writes it: 1 for 1.0, "default" for what is not set."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _distinct(configs: Iterable[Flat], key: str) -> int:
    return len({_frozen(config, key) for config in configs})


def _frozen(config: Flat, key: str) -> Hashable:
    # True == 1 == 1.0 in Python; a bool and a number are told apart here, 1 and 1.0 are not.
    value = config.get(key)
    return (isinstance(value, bool), key in config, value)


def _section(key: str) -> str:
    return key.partition(".")[0]


def _implied(configs: Sequence[Flat], key: str) -> bool:
    """Tell whether the name of the data set or model implies the value in every cell."""
    by = _decider(key)
    return by is not None and _section(key) not in _DECIDES and not _varies_within(configs, key, by)


def _follows(configs: Sequence[Flat], key: str, others: Sequence[str]) -> bool:
    """Tell whether a field has one value wherever the other fields are the same."""
    values: dict[tuple[Hashable, ...], set[Hashable]] = {}
    for config in configs:
        of_others = tuple(_frozen(config, other) for other in others)
        values.setdefault(of_others, set()).add(_frozen(config, key))
    return all(len(each) == 1 for each in values.values())


def _varies_within(configs: Sequence[Flat], key: str, by: str) -> bool:
    return any(_distinct(group, key) > 1 for group in _grouped(configs, by).values())


def _grouped(configs: Sequence[Flat], by: str) -> dict[Any, list[Flat]]:
    groups: dict[Any, list[Flat]] = {}
    for config in configs:
        groups.setdefault(config.get(by), []).append(config)
    return groups


def _decider(key: str) -> str | None:
    """Return the field that a field depends on, such as the model's name; None for most."""
    section = _section(key)
    if key in _RESOLVED_BY_DATASET:
        return "dataset.name"
    if key == "training.crop_scale":
        return "training.crop"
    if key == "dataset.domains":
        return "dataset.target"
    by = _DECIDES.get(section, f"{section}.name")
    return None if key == by or section not in _SECTIONS else by


def _omitted_for(configs: Sequence[Flat], key: str) -> set[Any]:
    """Return the models or data sets that have only one value of this parameter."""
    by = _decider(key)
    if by is None:
        return set()
    groups = _grouped(configs, by)
    return {name for name, group in groups.items() if _distinct(group, key) == 1}


def _is_omitted(omitted: set[Any], key: str, config: Flat) -> bool:
    """Leave out a parameter of a model or data set where that one has only one value of it.

    Also a field of transfer or teacher that is not set, but for the weights, a way to mix where
    nothing is mixed, and the schedule of a method that mixes nothing.
    """
    decided = _section(key) in transfers.SECTIONS and key not in transfers.OF_WEIGHTS
    if (decided or key == "task.mixing") and config.get(key) is None:
        return True
    by = _decider(key)
    if by is None or config.get(by) not in omitted:
        return False
    if key == schedules.NAME:
        return config.get(by) == "none"
    return _section(key) != "transfer"


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each dotted key, with as many before it as tell the keys apart."""
    short = {}
    for key in keys:
        parts = key.split(".")
        for length in range(1, len(parts) + 1):
            tail = parts[-length:]
            if sum(other.split(".")[-length:] == tail for other in keys) == 1:
                break
        short[key] = ".".join(tail)
    return short


def _parameter(key: str, value: Any) -> str:
    name = key.removeprefix("augmentation.")
    if key == TUNE:
        return str(value)
    if isinstance(value, bool):
        return name if value else f"no {name}"
    if isinstance(value, str) and value.startswith("["):
        value = ",".join(value_text(item) for item in json.loads(value))
    return f"{_SYMBOLS.get(name, name)}={value_text(value)}"


def factor_text(short: str, key: str, value: Any, origins: Mapping[str, str]) -> str:
    """Return a field and its value as text. short: the field's name among the others."""
    if key in ("dataset.name", "model.name"):
        kind, colon, path = str(value).partition(":")
        return f"{kind}:{PurePath(path).name}" if colon and path else str(value)
    if key == schedules.NAME:
        return str(value) if str(value).startswith("dose ") else f"staging {value}"
    if _section(key) == "transfer" or key == transfers.TEACHER:
        return transfers.words(key, value, origins)
    if key == stream_names.UNLABELLED:
        return str(value)
    return f"{short} {value_text(value)}"


def _told_apart(
    labels: Sequence[Label],
    configs: Sequence[Flat],
    varying: Sequence[str],
    origins: Mapping[str, str],
) -> list[Label]:
    """Tell equal labels apart by every varying field in full, and a number as a last resort."""
    texts = Counter(label.text for label in labels)
    full = []
    for label, config in zip(labels, configs, strict=True):
        if texts[label.text] > 1:
            rest = [
                factor_text("", key, config[key], origins)
                if _section(key) in ("staging", "transfer")
                else f"{key} {config[key]!r}"
                for key in varying
                if key in config
            ]
            label = Label(label.method, JOIN.join(rest))
        full.append(label)
    seen: dict[str, int] = {}
    for index, label in enumerate(full):
        seen[label.text] = seen.get(label.text, 0) + 1
        if seen[label.text] > 1:
            numbered = JOIN.join(part for part in (label.group, f"#{seen[label.text]}") if part)
            full[index] = Label(label.method, numbered)
    return full
