"""The measurements that `mixbench evaluate` takes of finished runs, by name, without torch.

Adding one is a file with `measure(subject, settings)`, its settings, and a line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mixbench.experiments.config import datasets as data
from mixbench.experiments.config import messages
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.errors import Impossible, UserError, unknown
from mixbench.experiments.evaluation import settings
from mixbench.experiments.section import Section


@dataclass(frozen=True)
class Measurement:
    """A measurement as `mixbench list measurements` shows it; `module` has its `measure`."""

    name: str
    summary: str
    module: str
    settings: type[Section]


MEASUREMENTS = {
    entry.name: entry
    for entry in (
        Measurement(
            "calibration",
            "calibration errors of many kinds, before and after temperature scaling",
            "calibration",
            settings.CalibrationSettings,
        ),
        Measurement(
            "overfitting",
            "clean training accuracy, and how far the test set is behind",
            "overfitting",
            settings.OverfittingSettings,
        ),
        Measurement(
            "hiding",
            "accuracy where a growing part is hidden, by five shapes and four fills",
            "hiding",
            settings.HidingSettings,
        ),
        Measurement(
            "corruption",
            "accuracy under common corruptions at five severities",
            "corruption",
            settings.CorruptionSettings,
        ),
        Measurement("attack", "accuracy under FGSM and PGD", "attack", settings.AttackSettings),
        Measurement(
            "smoothness",
            "input gradients, flips under noise, entropy of predictions",
            "smoothness",
            settings.SmoothnessSettings,
        ),
        Measurement(
            "shift",
            "whether images of another data set get less confidence",
            "shift",
            settings.ShiftSettings,
        ),
        Measurement(
            "localisation",
            "where class activation maps point, in composed scenes and in own images with boxes",
            "localisation",
            settings.LocalisationSettings,
        ),
    )
}


ALSO = {"occlusion": "hiding"}
"""Other names: `hiding` is the occlusion of every run's own measurement, in full."""


def chosen(names: Sequence[str]) -> list[str]:
    """The names, each once; all measurements where none is given. UserError for an unknown one."""
    names = [ALSO.get(name, name) for name in names]
    for name in names:
        if name not in MEASUREMENTS:
            raise unknown("measurement", name, MEASUREMENTS)
    return list(dict.fromkeys(names or MEASUREMENTS))


def resolve(changes: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """name -> all settings, as JSON has them, with these `changes` ("attack.steps" -> 20).

    UserError for a key or value that is not allowed, or of a measurement that is not in `names`.
    """
    given: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in changes.items():
        name, _, field = key.partition(".")
        name = ALSO.get(name, name)
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


def check(
    wanted: Mapping[str, Mapping[str, Any]], datasets: Iterable[DatasetConfig]
) -> dict[str, str]:
    """Have what is needed to measure runs on these data sets, before any is measured.

    UserError where data are not there, or settings don't fit them. What can't be made here, though
    nothing in its settings is wrong: name -> why.
    """
    impossible = {}
    for dataset in datasets:
        data.ensure(dataset.name, check=False)
        for name, values in wanted.items():
            module = importlib.import_module(
                f"mixbench.experiments.evaluation.{MEASUREMENTS[name].module}"
            )
            try:
                if hasattr(module, "check"):
                    module.check(parse(name, values), dataset)
            except Impossible as error:
                impossible[name] = str(error)
    return impossible


def changed(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a measurement's settings, as JSON has them, that are not its defaults."""
    usual = parse(name, {}).model_dump(mode="json")
    return {key: value for key, value in values.items() if value != usual.get(key)}


def parse(name: str, values: Mapping[str, Any]) -> Section:
    """The settings of a measurement; UserError for what is not allowed."""
    kind = MEASUREMENTS[name].settings
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"{name}.{messages.in_words(error, kind)}") from None
