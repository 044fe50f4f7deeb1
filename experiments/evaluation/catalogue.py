"""The measurements that `mixbench evaluate` takes of finished runs, by name, without torch.

A folder of `evaluation` is a measurement if its `__init__.py` has a MEASUREMENT: see `declaration`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from mixbench.experiments import evaluation
from mixbench.experiments.config import messages
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import fetch
from mixbench.experiments.errors import Impossible, UserError, unknown
from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section
from mixbench.experiments.store.run_folder import PlannedRun


def _discover() -> dict[str, tuple[Measurement, str]]:
    """Measurements and their packages by name, in the order of lists and reports."""
    packages = (
        f"{evaluation.__name__}.{module.name}"
        for module in pkgutil.iter_modules(evaluation.__path__)
        if module.ispkg
    )
    measurements = [
        (declared, package)
        for package in packages
        if (declared := getattr(importlib.import_module(package), "MEASUREMENT", None)) is not None
    ]
    measurements.sort(key=lambda pair: (pair[0].order, pair[0].name))
    return {declared.name: (declared, package) for declared, package in measurements}


_DISCOVERED = _discover()
MEASUREMENTS = {name: declared for name, (declared, _) in _DISCOVERED.items()}
ALIASES = {alias: name for name, declared in MEASUREMENTS.items() for alias in declared.aliases}
"""Other names that users may type: `occlusion` for `hiding`."""


def implementation(name: str) -> ModuleType:
    """The module that has `measure(subject, settings)`; it imports torch."""
    return importlib.import_module(f"{_DISCOVERED[name][1]}.measure")


def chosen(names: Sequence[str]) -> list[str]:
    """The measurements of these names, each once; all but the slow ones if no name is given.

    Args:
        names: Names or aliases.

    Raises:
        UserError: A name is unknown.
    """
    names = [ALIASES.get(name, name) for name in names]
    for name in names:
        if name not in MEASUREMENTS:
            raise unknown("measurement", name, MEASUREMENTS)
    usual = [name for name, one in MEASUREMENTS.items() if not one.is_by_name]
    return list(dict.fromkeys(names or usual))


def by_kind(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split names into those measured of one run's network and those measured over a cell."""
    known = list(names)
    of_cell = [name for name in known if MEASUREMENTS[name].of_cell]
    return [name for name in known if name not in of_cell], of_cell


def resolve(changes: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The settings of each measurement, as JSON, with some of them changed.

    Args:
        changes: "NAME.key" -> value, such as "attack.steps" -> 20.
        names: The measurements.

    Returns:
        Name -> all settings.

    Raises:
        UserError: A key or value is not allowed, or belongs to a measurement not in `names`.
    """
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in changes.items():
        name, _, field = key.partition(".")
        name = ALIASES.get(name, name)
        if name not in MEASUREMENTS:
            raise unknown("measurement in --set", name, MEASUREMENTS)
        if name not in given:
            raise UserError(
                f"--set {key}: {name} is not among what is measured: {', '.join(given)}"
            )
        known = MEASUREMENTS[name].settings.model_fields
        if not field:
            raise UserError(f"--set {key}: expected one of its settings: {', '.join(known)}")
        if field not in known:
            raise unknown(f"setting of {name} in --set", field, known)
        given[name][field] = value
    return {name: parse(name, values).model_dump(mode="json") for name, values in given.items()}


def prepare(
    wanted: Mapping[str, Mapping[str, Any]], datasets: Iterable[DatasetConfig]
) -> dict[str, str]:
    """Fetch and check what is needed to measure runs on these data sets, before any is measured.

    Args:
        wanted: Name -> settings of the measurements.
        datasets: Those of the runs.

    Returns:
        Name -> reason, of measurements that can't be made here though their settings are right.

    Raises:
        UserError: Data are missing, or settings don't fit them.
    """
    impossible = {}
    for dataset in datasets:
        fetch.ensure(dataset.name, verify=False)
        for name, values in wanted.items():
            module = implementation(name)
            try:
                if hasattr(module, "prepare"):
                    module.prepare(parse(name, values), dataset)
            except Impossible as error:
                impossible[name] = str(error)
    return impossible


def check_runs(wanted: Mapping[str, Mapping[str, Any]], runs: Sequence[PlannedRun]) -> None:
    """Check settings that name other runs of the sweep, before any is measured.

    Args:
        wanted: Name -> settings of the measurements.
        runs: Those that will be measured.

    Raises:
        UserError: They don't fit the runs.
    """
    for name, values in wanted.items():
        module = implementation(name)
        if hasattr(module, "check_runs"):
            module.check_runs(parse(name, values), runs)


def changed(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the defaults, as JSON.

    Args:
        name: Of the measurement.
        values: Its settings.
    """
    usual = parse(name, {}).model_dump(mode="json")
    return {key: value for key, value in values.items() if value != usual.get(key)}


def parse(name: str, values: Mapping[str, Any]) -> Section:
    """Parse the settings of a measurement.

    Args:
        name: Of the measurement.
        values: Settings that differ from the defaults.

    Raises:
        UserError: A key or value is not allowed.
    """
    kind = MEASUREMENTS[name].settings
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"{name}.{messages.to_message(error, kind)}") from None
