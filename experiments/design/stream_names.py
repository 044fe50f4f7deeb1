"""What a run has beside its labelled images (`streams`) in one phrase: "fixmatch cutmix"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

UNLABELLED = "streams.unlabelled"
ALGORITHM = f"{UNLABELLED}.algorithm"
LABELS_ALONE = "labels alone"
SECTION = "streams"
_METHOD = f"{UNLABELLED}.augmentation."
MIXING = f"{_METHOD}name"
_OWN_MIXING = {"mixmatch": "mixup", "ict": "mixup"}
"""Algorithms that mix in one way alone, which their name says."""

Flat = Mapping[str, Any]


def for_names(configs: Sequence[Flat]) -> list[dict[str, Any]]:
    """Return flattened configurations with all fields of streams as one phrase.

    It has the algorithm, the mixing, and of the rest what varies among cells with these two.

    Examples:
        >>> fixmatch = {"streams.unlabelled.algorithm": "fixmatch", "seed": 0}
        >>> cutmix = {**fixmatch, "streams.unlabelled.augmentation.name": "cutmix"}
        >>> for_names([fixmatch, cutmix, {"seed": 0}])[1:]
        [{'seed': 0, 'streams.unlabelled': 'fixmatch cutmix'}, {'seed': 0, \
'streams.unlabelled': 'labels alone'}]
    """
    if not any(_is_set(config.get(ALGORITHM)) for config in configs):
        return [dict(config) for config in configs]
    groups: dict[str, list[Flat]] = {}
    for config in configs:
        groups.setdefault(_words(config), []).append(config)
    varying = {words: _varying(group) for words, group in groups.items()}
    named = []
    for config in configs:
        words = _words(config)
        parts = [words, *(_part(key, config.get(key)) for key in varying[words])]
        rest = {key: value for key, value in config.items() if not key.startswith(f"{SECTION}.")}
        named.append({**rest, UNLABELLED: " ".join(parts)})
    return named


def _words(config: Flat) -> str:
    algorithm, mixing = config.get(ALGORITHM), config.get(MIXING)
    if not _is_set(algorithm):
        return LABELS_ALONE
    told = not _is_set(mixing) or mixing in ("none", _OWN_MIXING.get(str(algorithm)))
    return str(algorithm) if told else f"{algorithm} {mixing}"


def _varying(group: Sequence[Flat]) -> list[str]:
    keys = dict.fromkeys(key for config in group for key in config if _is_shown(key))
    return [key for key in keys if len({repr(config.get(key)) for config in group}) > 1]


def _is_shown(key: str) -> bool:
    return key.startswith(f"{UNLABELLED}.") and key not in (ALGORITHM, MIXING)


def _part(key: str, value: Any) -> str:
    name = key.removeprefix(f"{UNLABELLED}.").removeprefix("augmentation.")
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{name}={text}" if _is_set(value) else f"{name} default"


def _is_set(value: Any) -> bool:
    """Tell whether there is a value: a table has NaN where there is none."""
    return value is not None and value == value
