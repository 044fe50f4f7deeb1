"""What errors on published files are divided by: the errors of another network."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.corruption.levels import BENCHMARK

ALEXNET = dict(
    zip(
        (
            *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
            *("motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast"),
            *("elastic_transform", "pixelate", "jpeg_compression"),
        ),
        (
            *(0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816),
            *(0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500),
        ),
        strict=True,
    )
)
"""Mean top-1 errors over severities of AlexNet on ImageNet-C, as published with it."""


@dataclass(frozen=True)
class Reference:
    """Errors by corruption, and what they are of."""

    title: str
    errors: dict[str, float]


def errors_of(given: str | None, folder: str | None, wanted: Sequence[str]) -> Reference | None:
    """The reference that a setting names; None where it names none.

    Args:
        given: "alexnet", a CSV file, or None.
        folder: That of the images.
        wanted: The corruptions that it must have.

    Raises:
        UserError: It is without use, not readable, or lacks a corruption.
    """
    if given is None:
        return None
    if folder is None:
        raise UserError(
            f"corruption.reference: got {given!r} without corruption.files, whose mCE it is for"
        )
    if given == "alexnet":
        return Reference("AlexNet on ImageNet-C (Hendrycks and Dietterich 2019)", ALEXNET)
    errors = _read(Path(given))
    if missing := [name for name in wanted if name in BENCHMARK and name not in errors]:
        raise UserError(f"corruption.reference: {given} has no error for {', '.join(missing)}")
    return Reference(Path(given).name, errors)


def _read(path: Path) -> dict[str, float]:
    where = f"corruption.reference: {path}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{where}: not readable as CSV ({error})") from None
    columns = list(rows[0]) if rows else []
    if not {"corruption", "error"} <= set(columns):
        raise UserError(f"{where}: has the columns {columns}, expected corruption and error")
    errors: dict[str, float] = {}
    for number, row in enumerate(rows, start=2):
        text = row["error"] or ""
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= 1:
            raise UserError(
                f"{where}, line {number}: error: got {text!r}, expected a number above 0, at most 1"
            )
        errors[str(row["corruption"])] = value
    return errors
