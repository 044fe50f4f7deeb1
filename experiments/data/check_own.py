"""Check a data set of the user's own: what mixbench relies on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from mixbench.experiments.config import own_data
from mixbench.experiments.config.own_arrays import OwnData
from mixbench.experiments.design.tasks import LABELS
from mixbench.experiments.text import first_line, plural


def check_dataset(name: str) -> list[tuple[str, str]]:
    """Return (promise, what is broken or "") for each thing that a comparison relies on.

    Raises UserError where there are no usable data at all.
    """
    data = own_data.read(name)
    checks: dict[str, Callable[[], str]] = {
        f"gives {_described(data)}": lambda: "",
        "gives the same data when it is called again": lambda: _again(name, data),
        "tests on images that it does not train on": lambda: _overlap(data),
    }
    if data.targets == LABELS:
        checks["has images of every class to test on"] = lambda: _untested(data)
    found = []
    for promise, broken in checks.items():
        try:
            found.append((promise, broken()))
        except Exception as error:  # other people's code can raise anything
            found.append((promise, f"{type(error).__name__}: {first_line(error)}"))
    return found


def _described(data: OwnData) -> str:
    channels, height, width = data.parts["train"][0].shape[1:]
    counts = ", ".join(f"{len(labels):,} {part}" for part, (_, labels) in data.parts.items())
    of = plural(len(data.classes), "class", "classes")
    if data.targets == "regression":
        of = plural(len(data.classes), "number")
    return f"{counts} images of {height} x {width} pixels and {plural(channels, 'channel')}, {of}"


def _again(name: str, data: OwnData) -> str:
    if own_data.read(name).digest == data.digest:
        return ""
    return "other images or labels: draw nothing at random, or with a seed of its own"


def _overlap(data: OwnData) -> str:
    seen = {
        _content(image) for part in data.parts if part != "test" for image in data.parts[part][0]
    }
    same = sum(_content(image) in seen for image in data.parts["test"][0])
    total = len(data.parts["test"][1])
    return f"{same} of {total} test images have the pixels of one that trains" if same else ""


def _content(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _untested(data: OwnData) -> str:
    there = set(data.parts["test"][1].tolist())
    without = [name for number, name in enumerate(data.classes) if number not in there]
    return f"none of {', '.join(without[:3])}" if without else ""
