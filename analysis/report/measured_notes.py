"""What the report says below the table of a measurement that no other measurement needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixbench.analysis.statistics import tests
from mixbench.analysis.text import formatting

Found = Mapping[str, Mapping[str, Any]]
"""run_key -> the file of one measurement."""


def of(name: str, found: Found, runs: pd.DataFrame) -> list[str]:
    """What is to be known of this measurement alone, and on how many images it was taken."""
    curves = [made.get("curves") or {} for made in found.values()]
    notes = []
    if name == "calibration":
        bounded = sum(
            bool((made.get("metrics") or {}).get("calibration/temperature_bounded"))
            for made in found.values()
        )
        if bounded:
            notes.append(
                f"In {bounded} of {formatting.count(len(curves), 'run')} the temperature is a "
                "bound of the fit or arbitrary, as where the validation split shows no error: "
                "the scaled numbers of these runs say little."
            )
        notes += _fitted_on(runs[runs["run_key"].isin(set(found))])
    if name == "shift":
        foreign = dict.fromkeys(str(curve["dataset"]) for curve in curves if "dataset" in curve)
        resized = any(curve.get("resized") for curve in curves)
        if foreign:
            more = ", resized to the network's images" if resized else ""
            notes.append(f"The other data set: {formatting.joined(foreign)}{more}.")
    if name == "localisation":
        notes += _chances(found) + _places(curves)
    flat = [curve["flat"] for curve in curves if tests.is_number(curve.get("flat"))]
    if flat and max(flat) > 0:
        notes.append(
            f"In up to {100 * max(flat):.1f}% of the images the loss has no gradient to follow."
        )
    images = {curve["images"] for curve in curves if isinstance(curve.get("images"), int)}
    if len(images) == 1:
        what = "scenes" if name == "localisation" else "images"
        notes.append(f"On {images.pop():,} {what}.")
    return notes


def _fitted_on(runs: pd.DataFrame) -> list[str]:
    """How many images the temperature was fitted on: few of them are few for all runs alike."""
    sizes = sorted({int(size) for size in runs.get("data.validation", ()) if size == size})
    if not sizes:
        return []
    said = (
        f"The temperature was fitted on {formatting.joined(f'{size:,}' for size in sizes)} images"
    )
    splits = runs[["dataset.name", "dataset.split_seed"]].drop_duplicates()
    if len(sizes) > 1 or len(splits) > 1:
        return [f"{said} of the validation split."]
    return [
        f"{said}, the same in all runs: what sets these apart from the test set shifts the scaled "
        "numbers of all runs alike, and is not in the intervals."
    ]


def _chances(found: Found) -> list[str]:
    """What maps score that know nothing."""
    notes = []
    for prefix, where in (("", "Chance"), ("boxes/", "Chance on own images")):
        parts = []
        for key, title in (("pointing", "pointing"), ("iou", "IoU"), ("energy", "energy")):
            name = f"localisation/{prefix}{key}/chance"
            values = [(made.get("metrics") or {}).get(name) for made in found.values()]
            mean = tests.estimate([v for v in values if tests.is_number(v)]).mean
            if mean is not None:
                parts.append(f"{title} {formatting.number(mean)}%")
        if parts:
            notes.append(f"{where}: {formatting.joined(parts)}.")
    return notes


def _places(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """How scenes were shown, what the maps resolve, and which own images were left out."""
    notes = []
    small = sum(curve.get("whole") is False for curve in curves)
    if small:
        grid = max(int(curve.get("grid") or 0) for curve in curves)
        notes.append(
            f"In {small} of {formatting.count(len(curves), 'run')} the network takes images of its "
            f"own size alone, and sees the scenes resized to it, objects 1/{grid} as large: don't "
            "compare these runs with others."
        )
    sizes = sorted({tuple(curve["map"]) for curve in curves if curve.get("map")})
    if sizes:
        shown = formatting.joined(f"{height} × {width}" for height, width in sizes)
        notes.append(f"Maps have {shown} places for the scene: nothing finer can be scored.")
    own = [curve["boxes"] for curve in curves if curve.get("boxes")]
    if own:
        most = {
            key: max(int(one.get(key) or 0) for one in own)
            for key in ("images", "outside", "trained")
        }
        notes.append(
            f"Own images: up to {most['images']:,} with boxes; left out up to {most['trained']:,} "
            f"that the network was trained or chosen on, and {most['outside']:,} whose boxes are "
            "outside of the central square."
        )
    return notes
