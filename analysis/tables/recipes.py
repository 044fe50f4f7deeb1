"""Fields of `training` that few runs set: what they are where they are unset, and in names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DEFAULTS = {"training.optimiser": "sgd", "training.loss": "ce"}
"""What a field means where it is not set; published tables have it filled in."""
_SECTION = "training."
_EMA = "training.ema"
_DECAY = f"{_EMA}.decay"


def spread(flat: Sequence[dict[str, Any]]) -> None:
    """Give every flattened configuration all `training` fields that one of them has, in place.

    A sweep may hold runs from before there was a field.
    """
    keys = dict.fromkeys(key for config in flat for key in config if key.startswith(_SECTION))
    keys.pop(_EMA, None)
    for config in flat:
        config.pop(_EMA, None)
        for key in keys:
            config.setdefault(key, None)


def for_names(configs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return flattened configurations as names have them: defaults in words, the average as one.

    Examples:
        >>> for_names([{"training.loss": None}, {"training.ema.decay": 0.9}])
        [{'training.loss': 'ce', 'training.ema': 'none'}, {'training.ema': '0.9'}]
    """
    averages = any(config.get(_DECAY) is not None for config in configs)
    return [_for_names(config, averages) for config in configs]


def _for_names(config: Mapping[str, Any], averages: bool) -> Mapping[str, Any]:
    named = {key: value for key, value in config.items() if not key.startswith(f"{_EMA}.")}
    for key, default in DEFAULTS.items():
        if key in named and named[key] is None:
            named[key] = default
    if averages:
        named[_EMA] = _average(config)
    return named


def _average(config: Mapping[str, Any]) -> str:
    decay = config.get(_DECAY)
    if decay is None or decay != decay:
        return "none"
    words = [f"{decay:g}"]
    words += ["warmup"] if config.get(f"{_EMA}.warmup") else []
    words += ["beside"] if config.get(f"{_EMA}.evaluate") == "beside" else []
    return " ".join(words)
