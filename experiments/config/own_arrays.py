"""What a data set of the user's own returns: images and labels, checked and in one form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixbench.experiments.design.tasks import LABELS
from mixbench.experiments.errors import unknown
from mixbench.experiments.text import first_line, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("train", "validation", "test")
TARGETS = (LABELS, "multi_label", "regression")
_SIDES = (8, 1024)


@dataclass(frozen=True)
class OwnData:
    """Images uint8 (N,C,H,W) and labels, or other targets, by part; the names of the classes.

    Labels are as of `data.named.Arrays`. `digest` is 16 hexadecimal digits of all of it.
    """

    classes: tuple[str, ...]
    parts: dict[str, tuple[NDArray[Any], NDArray[Any]]]
    targets: str
    digest: str


def checked(returned: Any) -> OwnData:
    """Check what a function returned; ValueError says what is wrong."""
    if not isinstance(returned, Mapping):
        raise ValueError(
            f"got a {type(returned).__name__}, expected a dict with train and test, each images "
            "and labels"
        )
    for key in returned:
        if key not in (*PARTS, "classes", "targets"):
            raise ValueError(str(unknown("key", key, (*PARTS, "classes", "targets"))))
    for part in ("train", "test"):
        if returned.get(part) is None:
            raise ValueError(f"there is no {part} part; expected images and labels to {part} on")
    targets = returned.get("targets") or LABELS
    if targets not in TARGETS:
        raise ValueError(str(unknown("targets", targets, TARGETS)))
    given = {part: returned[part] for part in PARTS if returned.get(part) is not None}
    pairs = {part: _pair(value, part) for part, value in given.items()}
    shapes = {part: images.shape[1:] for part, (images, _) in pairs.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "images of different channels, height and width: "
            + ", ".join(f"{part} {shape}" for part, shape in shapes.items())
        )
    names = returned.get("classes")
    labels = {part: labels for part, (_, labels) in pairs.items()}
    classes, labels = _CHECKS[targets](labels, None if names is None else [*map(str, names)])
    parts = {part: (images, labels[part]) for part, (images, _) in pairs.items()}
    return OwnData(tuple(classes), parts, targets, _digest(classes, parts, targets))


def _pair(given: Any, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the images (N,C,H,W) and the labels of a part."""
    import numpy as np

    if isinstance(given, tuple | list) and len(given) == 2:
        images, labels = given
    elif hasattr(given, "__len__") and hasattr(given, "__getitem__"):
        try:
            images, labels = zip(*(given[number] for number in range(len(given))), strict=True)
        except (TypeError, ValueError):
            raise ValueError(f"{part}: expected (images, labels), or pairs of both") from None
    else:
        raise ValueError(f"{part}: got a {type(given).__name__}, expected (images, labels)")
    try:
        if isinstance(images, tuple | list):
            images = np.stack([np.asarray(image) for image in images])
        pixels, known = np.asarray(images), np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{part}: its images are no array, or of different sizes ({first_line(error)}); "
            "csv:FILE takes any sizes"
        ) from None
    pixels = _with_channels(pixels, part)
    if len(pixels) != len(known) or not len(pixels):
        raise ValueError(
            f"{part}: got {plural(len(pixels), 'image')} and {plural(len(known), 'label')}, "
            "expected as many of both, and some"
        )
    return pixels, known


def _with_channels(pixels: NDArray[Any], part: str) -> NDArray[Any]:
    """Return uint8 images as (N,C,H,W)."""
    import numpy as np

    if pixels.dtype != np.uint8:
        raise ValueError(
            f"{part}: got images of {pixels.dtype}, expected uint8 pixels, from 0 to 255"
        )
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[3] in (1, 3) and pixels.shape[1] not in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    fine = pixels.ndim == 4 and pixels.shape[1] in (1, 3)
    if not fine or not all(_SIDES[0] <= side <= _SIDES[1] for side in pixels.shape[2:]):
        raise ValueError(
            f"{part}: got images of shape {pixels.shape}, expected (N,H,W), (N,H,W,C) or (N,C,H,W) "
            f"with 1 or 3 channels and sides of {_SIDES[0]} to {_SIDES[1]} pixels"
        )
    return np.ascontiguousarray(pixels)


_Labels = dict[str, "NDArray[Any]"]


def _labels(labels: _Labels, names: list[str] | None) -> tuple[list[str], _Labels]:
    """Check one label an image: a whole number, or a name."""
    import numpy as np

    if labels["train"].dtype.kind in "UO":
        texts = {part: [str(one) for one in values.tolist()] for part, values in labels.items()}
        names = names or sorted(set(texts["train"]))
        for part, found in texts.items():
            if extra := set(found) - set(names):
                raise ValueError(f"{part}: label {min(extra)!r} is none of the classes")
        labels = {part: np.array([*map(names.index, found)]) for part, found in texts.items()}
    for part, values in labels.items():
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise ValueError(
                f"{part}: got labels of {values.dtype} and shape {values.shape}, expected a whole "
                "number or a name for each image (or targets: multi_label, regression)"
            )
    known = names or [str(number) for number in range(int(labels["train"].max()) + 1)]
    for part, values in labels.items():
        if values.min() < 0 or values.max() >= len(known):
            raise ValueError(
                f"{part}: got labels from {values.min()} to {values.max()}, expected 0 to "
                f"{len(known) - 1}: there are {len(known)} classes"
            )
    without = sorted(set(range(len(known))) - set(labels["train"].tolist()))
    if without or len(known) < 2:
        raise ValueError(
            f"train: no image of class {known[without[0]]!r}"
            if without
            else "got one class, expected at least two"
        )
    return known, {part: values.astype(np.int64) for part, values in labels.items()}


def _rows(labels: _Labels, names: list[str] | None) -> tuple[list[str], _Labels]:
    """Check several numbers an image: (N,K) finite; (N,) is one."""
    import numpy as np

    found: _Labels = {}
    for part, values in labels.items():
        rows = values[:, None] if values.ndim == 1 else values
        if rows.ndim != 2 or rows.dtype.kind not in "iufb" or not np.isfinite(rows).all():
            raise ValueError(
                f"{part}: got targets of {values.dtype} and shape {values.shape}, expected a row "
                "of finite numbers for each image"
            )
        found[part] = rows.astype(np.float32)
    count = found["train"].shape[1]
    known = names or [str(number) for number in range(count)]
    for part, rows in found.items():
        if rows.shape[1] != len(known):
            raise ValueError(f"{part}: got {rows.shape[1]} numbers an image, expected {len(known)}")
    return known, found


def _several_labels(labels: _Labels, names: list[str] | None) -> tuple[list[str], _Labels]:
    """Check several labels an image: rows (N,K) of 0 and 1."""
    known, found = _rows(labels, names)
    for part, rows in found.items():
        if not ((rows == 0) | (rows == 1)).all():
            raise ValueError(f"{part}: got other numbers than 0 and 1 as labels of an image")
    return known, found


_CHECKS = {LABELS: _labels, "multi_label": _several_labels, "regression": _rows}


def _digest(
    classes: list[str], parts: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], targets: str
) -> str:
    total = hashlib.sha256("\0".join([targets, *classes]).encode(errors="surrogatepass"))
    for part, (images, labels) in parts.items():
        total.update(f"\n{part} {images.shape} {labels.shape}\n".encode())
        total.update(images.data)
        total.update(labels.tobytes())
    return total.hexdigest()[:16]
