"""Describe what a run starts from, which layers are frozen, and who teaches it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from mixbench.analysis.tables.schedules import moment_text

WEIGHTS = "transfer.weights"
TEACHER = "teacher.weights"
OF_WEIGHTS = (WEIGHTS, TEACHER)
SECTIONS = ("transfer", "teacher")
# What a run does if a field is not set.
_UNSET = {
    "freeze": "freeze none",
    "unfreeze": "no unfreezing",
    "head": "head new",
    "backbone_rate": "backbone_rate 1",
    "layer_decay": "layer_decay 1",
    "mixing": "mixing pixels",
    "cache": "cache where possible",
}


def spread(flat: Sequence[dict[str, Any]]) -> None:
    """Give each flat configuration all fields of transfer and teacher that one has, in place."""
    prefixes = tuple(f"{section}." for section in SECTIONS)
    keys = dict.fromkeys(key for config in flat for key in config if key.startswith(prefixes))
    for config in flat:
        for section in SECTIONS:
            config.pop(section, None)
        for key in keys:
            config.setdefault(key, None)


def origins(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return cell key -> a unique name of what a pretraining cell was trained on, or with.

    cells: cell key -> nested configuration.

    Examples:
        >>> one = {"dataset": {"name": "digits"}, "augmentation": {"name": "none"}}
        >>> origins({"a": one}), origins({"a": one, "b": {**one, "augmentation": {"name": "fmix"}}})
        ({'a': 'on digits'}, {'a': 'without mixing', 'b': 'with fmix'})
    """
    methods = [str(config["augmentation"]["name"]) for config in cells.values()]
    has_one_dataset = len({_dataset(config) for config in cells.values()}) == 1
    if has_one_dataset and len(cells) > 1 and len(set(methods)) == len(cells):
        ways = ("without mixing" if name == "none" else f"with {name}" for name in methods)
        return dict(zip(cells, ways, strict=True))
    short = {key: f"on {_dataset(config)}" for key, config in cells.items()}
    longer = {
        key: f"{short[key]}, {config['augmentation']['name']}" for key, config in cells.items()
    }
    names: dict[str, str] = {}
    for key in cells:
        is_alone = list(short.values()).count(short[key]) == 1
        name = short[key] if is_alone else longer[key]
        if name in names.values():
            name = f"{name} #{sum(other.startswith(name) for other in names.values()) + 1}"
        names[key] = name
    return names


def words(key: str, value: Any, origin: Mapping[str, str]) -> str:
    """A field of `transfer`, or the weights of a teacher, by its dotted key, and its value.

    origin: as from `origins`.
    """
    name = key.partition(".")[2]
    if key == WEIGHTS:
        return _weights(value, origin)
    if key == TEACHER:
        return "no teacher" if value is None else _teacher(str(value), origin)
    if value is None:
        return _UNSET.get(name, f"{name} default")
    if isinstance(value, bool):
        return name if value else f"no {name}"
    if name == "unfreeze":
        return _unfreezing(value)
    if name == "freeze" and _is_whole(value):
        return f"freeze to layer {value}"
    if name == "freeze" and value not in ("none", "all"):
        return f"freeze to {value}"
    return f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"


def _weights(value: Any, origin: Mapping[str, str]) -> str:
    if value is None:
        return "from scratch"
    kind, colon, rest = str(value).partition(":")
    if not colon:
        return "pretrained: timm's hub" if kind == "hub" else f"pretrained: {kind}"
    if kind == "cell":
        return f"pretrained {origin[rest]}" if rest in origin else "pretrained in this sweep"
    if kind == "run":
        return f"pretrained in {rest.partition('/')[0]}"
    return f"pretrained: {PurePath(rest).name}"


def _teacher(value: str, origin: Mapping[str, str]) -> str:
    return f"teacher {_weights(value, origin)}".replace(":", "", 1).replace("pretrained", "trained")


def _unfreezing(value: Any) -> str:
    """Describe unfreezings, such as "unfreeze at 50 % to layer 3"; value: JSON text or a word."""
    if not str(value).startswith("["):
        return f"unfreeze {value}"
    texts = []
    for item in json.loads(value):
        target = item.get("down_to")
        down = f"layer {target}" if _is_whole(target) else str(target)
        texts.append(f"at {moment_text(item.get('at'))} to {down}")
    return f"unfreeze {', '.join(texts)}" if texts else "no unfreezing"


def _dataset(config: Mapping[str, Any]) -> str:
    kind, colon, path = str(config["dataset"]["name"]).partition(":")
    return f"{kind}:{PurePath(path).name}" if colon else kind


def _is_whole(value: Any) -> bool:
    return str(value).isdigit()
