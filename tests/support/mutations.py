"""Seeded mutations of sweep files: of their structure, and of their text."""

from __future__ import annotations

import copy
import random
from typing import Any

import yaml

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 10**30, 2**63, 0.5, -0.0, 1e300, 10.0, 1e-12),
    *(float("inf"), float("-inf"), float("nan"), "", " ", "none", "null", "on", "1e3", "0,5"),
    *("1:30", "010", "2026-11-30", "ä€λ", "x" * 3000, "../..", "a/b", "cutmix", "*a", "%", "{}"),
    *([], [[]], {}, [None], {"name": None}, {"name": "cutmix"}, {"": 0}, {"name": ["mixup"]}),
    *([0, 1], ["none", "none"], [{"name": "choice", "methods": ["mixup", {"name": "choice"}]}]),
    *({"phases": []}, {"phases": [{"from": 0.5, "to": 0.1}]}, {"name": "hesitate"}, "hesitate"),
)
KEYS = (
    *("name", "fixed", "grid", "zip", "include", "exclude", "seeds", "scales", "baseline", "x-a"),
    *("dataset", "model", "augmentation", "training", "staging", "transfer", "evaluation"),
    *("epochs", "alpha", "prob", "methods", "train_size", "training.epochs", "augmentation.alpha"),
    *("dataset.name", "transfer.weights", "freeze", "unfreeze", "phases", "image_size", "seed"),
    *("", ".", "a.b", "fallback", "pretrain", "description"),
)
TEXTS = (
    *(":", ": ", "- ", ",", "[", "]", "{", "}", "&a ", "*a", "<<: *a", "#", "|", ">", "'", '"'),
    *("\n", "\t", "  ", "010", "0,5", "1e3", "on", "~", ".nan", ".inf", "-.inf", "-0.0", "!!set "),
    *("!!int ", "!!python/object:os.system ", "---\n", "...\n", "%YAML 1.2\n", "?", "=", "\0"),
    *("\ufeff", "\u2028", "ä", "\U0001f600", "1:30", "2026-11-30", "&b [*b]", "<<: [*a, *a]"),
    *("9" * 5000, "{{{{", "[" * 300, "\x1b[31m", "%s", "\\ud800", '"\\ud800"'),
)


def mutated(source: str, random_state: random.Random) -> bytes:
    """Return a sweep file made of another by a few changes, most of them mistakes."""
    if random_state.random() < 0.5:
        return _structure(source, random_state)
    return _text(source, random_state)


def _structure(source: str, state: random.Random) -> bytes:
    tree = yaml.load(source, yaml.CSafeLoader)
    for _ in range(state.choice((1, 1, 1, 2, 3))):
        _change(tree, state)
    options = {"sort_keys": False, "allow_unicode": True, "default_flow_style": None}
    text: str = yaml.dump(tree, Dumper=yaml.CSafeDumper, **options)
    return text.encode("utf-8", "surrogatepass")


def _change(tree: Any, state: random.Random) -> None:
    places = list(_places(tree))
    if not places:
        return
    holder, key = state.choice(places)
    _, other_key = other = state.choice(places)
    kind = state.randrange(9)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[state.choice(KEYS)] = holder.pop(key)
    elif kind == 2 and isinstance(holder, dict):
        holder[state.choice(KEYS)] = copy.deepcopy(state.choice(VALUES))
    elif kind == 3:
        holder[key] = [holder[key]]
    elif kind == 4:
        holder[key] = copy.deepcopy(other[0][other_key])
    elif kind == 5 and isinstance(holder[key], list):
        holder[key] = holder[key] * 3
    elif kind == 6 and isinstance(holder[key], list | dict):
        # An alias in the file, which may be inside its own anchor.
        holder[key] = other[0][other_key]
    else:
        holder[key] = copy.deepcopy(state.choice(VALUES))


def _places(tree: Any, seen: tuple[int, ...] = ()) -> Any:
    """Yield (mapping or list, key or index) of every value."""
    if id(tree) in seen or len(seen) > 12:
        return
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(items):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value, (*seen, id(tree)))


def _text(source: str, state: random.Random) -> bytes:
    lines = source.splitlines(keepends=True)
    for _ in range(state.choice((1, 1, 2, 4))):
        at = state.randrange(len(lines))
        kind = state.randrange(7)
        if kind == 0:
            del lines[at]
            lines = lines or ["\n"]
        elif kind == 1:
            lines.insert(state.randrange(len(lines) + 1), lines[at])
        elif kind == 2:
            other = state.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:
            lines[at] = state.choice((" ", "  ", "\t", "    ")) + lines[at].lstrip()
        else:
            line = lines[at]
            begin = state.randrange(len(line) + 1)
            end = begin if kind == 4 else min(len(line), begin + state.randrange(4))
            lines[at] = line[:begin] + state.choice(TEXTS) + line[end:]
    text = "".join(lines)
    encodings = ("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")
    return text.encode(state.choice(encodings), "replace")
