"""Fields of `training` that few runs set: what they are where they are unset, and in names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DEFAULTS = {"training.optimiser": "sgd", "training.loss": "ce"}
"""What a field means where it is not set; published tables have it filled in."""
_SECTION = "training."
_EMA = "training.ema"
_DECAY = f"{_EMA}.decay"
_SWA = "training.swa"
_FROM = f"{_SWA}.from"
_OPTIMISER = "training.optimiser"
_BASE = "training.sam_base"
_RHO = "training.sam_rho"
_IN_NAMES = {**DEFAULTS, "training.repeated_augmentation": 1}


def spread(flat: Sequence[dict[str, Any]]) -> None:
    """Give every flattened configuration all `training` fields that one of them has, in place.

    A sweep may hold runs from before there was a field.
    """
    keys = dict.fromkeys(key for config in flat for key in config if key.startswith(_SECTION))
    for section in (_EMA, _SWA):
        keys.pop(section, None)
    for config in flat:
        for section in (_EMA, _SWA):
            config.pop(section, None)
        for key in keys:
            config.setdefault(key, None)


def for_names(configs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return flattened configurations as names have them: defaults, averages and sam in words.

    Examples:
        >>> for_names([{"training.loss": None}, {"training.ema.decay": 0.9}])
        [{'training.loss': 'ce', 'training.ema': 'none'}, {'training.ema': '0.9'}]
        >>> for_names([{"training.optimiser": "sam", "training.sam_base": "adamw"}])
        [{'training.optimiser': 'sam adamw'}]
    """
    averages = any(_is_set(config.get(_DECAY)) for config in configs)
    means = any(_is_set(config.get(_FROM)) for config in configs)
    several = len({rho for config in configs if _is_set(rho := config.get(_RHO))}) > 1
    named = [_for_names(config, several) for config in configs]
    for config, names in zip(configs, named, strict=True):
        if averages:
            names[_EMA] = _average(config)
        if means:
            start = config.get(_FROM)
            names[_SWA] = f"{start:g}" if _is_set(start) else "none"
    return named


def _for_names(config: Mapping[str, Any], several_rhos: bool) -> dict[str, Any]:
    apart = (f"{_EMA}.", f"{_SWA}.", _BASE, _RHO)
    named = {key: value for key, value in config.items() if not key.startswith(apart)}
    for key, default in _IN_NAMES.items():
        if key in named and not _is_set(named[key]):
            named[key] = default
    if named.get(_OPTIMISER) == "sam":
        words = ["sam", *([config[_BASE]] if _is_set(config.get(_BASE)) else [])]
        named[_OPTIMISER] = " ".join([*words, *([f"rho {config[_RHO]:g}"] if several_rhos else [])])
    return named


def _is_set(value: Any) -> bool:
    """Tell whether there is a value: a table has NaN where there is none."""
    return value is not None and value == value


def _average(config: Mapping[str, Any]) -> str:
    decay = config.get(_DECAY)
    if not _is_set(decay):
        return "none"
    words = [f"{decay:g}"]
    words += ["warmup"] if config.get(f"{_EMA}.warmup") else []
    words += ["beside"] if config.get(f"{_EMA}.evaluate") == "beside" else []
    return " ".join(words)
