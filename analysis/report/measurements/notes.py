"""Write the notes below the table of a measurement."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.measurements.catalogue import Shown
from mixbench.analysis.report.measurements.load import Measured, curves_of, metrics_of
from mixbench.analysis.statistics.estimates import estimate
from mixbench.analysis.text import formatting
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import first_line, plural

Results = Mapping[str, Mapping[str, Any]]
"""run_key -> the file of one measurement."""


def notes_of(
    measured: Measured, shown: Sequence[Shown], sweep: str, runs: pd.DataFrame
) -> list[str]:
    """Return notes on what is missing or differs, and on this measurement."""
    command = f"mixbench evaluate {sweep} --only {measured.name}"
    notes = _missing(measured, int((runs["state"] == RunState.DONE).sum()), command)
    results = measured.results
    settings = {json.dumps(one.get("settings"), sort_keys=True) for one in results.values()}
    if len(settings) > 1:
        notes.append(
            f"The runs were measured with {len(settings)} different settings: don't compare them. "
            f"{command} takes all with the same."
        )
    for one in shown:
        values = [metrics_of(result).get(one.metric.key) for result in results.values()]
        if lacking := sum(not is_number(value) for value in values):
            notes.append(f"{one.metric.title} has no value in {plural(lacking, 'measured run')}.")
    notes += _errors_over_images(shown, results)
    return [*notes, *_particular(measured.name, results, runs)]


def _errors_over_images(shown: Sequence[Shown], results: Results) -> list[str]:
    """Say how far the numbers of one network would move with new test images, where it is known."""
    parts = []
    for one in shown:
        short = one.metric.key.partition("/")[2]
        errors = [
            (curves_of(result).get("standard_error") or {}).get(short)
            for result in results.values()
        ]
        mean = estimate(errors).mean
        if mean is not None:
            text = f"{100 * mean:.2g} points" if one.metric.percent else f"{mean:.2g}"
            parts.append(f"{one.metric.title} {text}")
    if not parts:
        return []
    return [
        "With new test images the numbers have a standard error of: "
        f"{formatting.joined(parts)}. The intervals of the table are over runs, on the same images."
    ]


def _missing(measured: Measured, done: int, command: str) -> list[str]:
    notes = []
    results = measured.results
    failed = [error for key, error in measured.failed.items() if key not in results]
    left_out = [reason for key, reason in measured.left_out.items() if key not in results]
    if len(results) < done:
        is_open = len(results) + len(left_out) < done
        notes.append(
            f"Measured for {len(results)} of {plural(done, 'finished run')}"
            f"{f'; {command} measures the others' if is_open else ''}."
        )
    if left_out:
        notes.append(f"Left out for {plural(len(left_out), 'run')}: {first_line(left_out[0])}.")
    if failed:
        notes.append(f"It failed in {plural(len(failed), 'run')}: {first_line(failed[0])}")
    return notes


def _particular(name: str, results: Results, runs: pd.DataFrame) -> list[str]:
    """Return notes on this measurement only, and the number of its images."""
    curves = [curves_of(result) for result in results.values()]
    notes = []
    if name == "calibration":
        notes += _over_images(results) + _temperatures(results)
        notes += _fitted_on(runs[runs["run_key"].isin(set(results))])
    if name == "corruption":
        notes += _corrupted_files(curves)
    if name == "bias_variance":
        notes += _runs_of_cells(curves)
    if name == "shift":
        foreign = dict.fromkeys(str(curve["dataset"]) for curve in curves if "dataset" in curve)
        resized = any(curve.get("resized") for curve in curves)
        if foreign:
            more = ", resized to the network's images" if resized else ""
            notes.append(f"The far data set: {formatting.joined(foreign)}{more}.")
        notes += _foreign_sets(curves)
    if name == "hiding" and (lacking := sum("home" not in curve for curve in curves)):
        notes.append(
            f"Not measured in {plural(lacking, 'run')} that an earlier mixbench measured: the area "
            "with the home left out, and iOcclusion; --again adds them."
        )
    if name == "object_share" and (out := _left_out(curves)):
        notes.append(out)
    if name == "localisation":
        notes += _chances(results) + _scenes(curves) + _boxed_images(curves)
    if name == "attack":
        notes += _masked(curves)
    flat = [curve["flat"] for curve in curves if is_number(curve.get("flat"))]
    if flat and max(flat) > 0:
        notes.append(
            f"In up to {100 * max(flat):.1f}% of the images the loss has no gradient to follow."
        )
    images = {curve["images"] for curve in curves if isinstance(curve.get("images"), int)}
    if len(images) == 1:
        what = "scenes" if name == "localisation" else "images"
        notes.append(f"On {images.pop():,} {what}.")
    return notes


def _foreign_sets(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how many images of which sets stand against how many own ones, and what is missing."""
    found: dict[str, dict[str, set[Any]]] = {}
    for curve in curves:
        for kind, one in (curve.get("sets") or {}).items():
            of_kind = found.setdefault(kind.replace("_", " "), {"names": set(), "images": set()})
            of_kind["names"].add(one["dataset"])
            of_kind["images"].add(one["images"])
    notes = []
    for kind, of_kind in found.items():
        names = formatting.joined(sorted(of_kind["names"]))
        if 0 in of_kind["images"]:
            notes.append(
                f"The {kind} data set {names} was not on the machine in some runs, and is missing "
                "there: fetch it, and measure again with --again."
            )
        images = formatting.joined(f"{count:,}" for count in sorted(of_kind["images"] - {0}))
        if images:
            notes.append(f"{kind.capitalize()}: {images} images of {names}.")
    own = sorted({curve["own_images"] for curve in curves if is_number(curve.get("own_images"))})
    if own:
        notes.append(f"Against {formatting.joined(f'{count:,}' for count in own)} own images.")
    return notes


def _left_out(curves: Sequence[Mapping[str, Any]]) -> str:
    """Say of which classes images are left out, as their objects can't fill so much."""
    counts = max(
        (curve["left_out"] for curve in curves if curve.get("left_out")),
        key=lambda one: sum(one.values()),
        default=None,
    )
    if not counts:
        return ""
    most = sorted(counts, key=lambda name: -counts[name])[:3]
    named = formatting.joined(f"{counts[name]:,} of {name}" for name in most)
    return (
        f"Left out: {sum(counts.values()):,} images whose object can't fill the largest share, as "
        f"the crop would be smaller than a quarter of the side; among them {named}."
    )


def _runs_of_cells(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say over how many runs cells were measured."""
    counts = sorted({int(curve["runs"]) for curve in curves if is_number(curve.get("runs"))})
    if not counts:
        return []
    notes = [
        f"Over {formatting.joined(map(str, counts))} runs of a cell. The numbers of single runs "
        "are the jackknife's: their mean is without most of the bias of few runs."
    ]
    if min(counts) < 5:
        notes.append("With fewer than five runs the main prediction is hardly known.")
    return notes


def _over_images(results: Results) -> list[str]:
    """Say how wide the intervals over test images are, which those over seeds do not hold."""
    parts = []
    for title, low, high in (
        ("debiased error", "debiased_low", "debiased_high"),
        ("ECE", "ece_low", "ece_high"),
    ):
        widths = [
            values[f"calibration/{high}"] - values[f"calibration/{low}"]
            for values in map(metrics_of, results.values())
            if is_number(values.get(f"calibration/{high}"))
        ]
        if widths:
            width = 100 * statistics.median(widths)
            parts.append(f"{width:.2g} points wide for the {title}")
    if not parts:
        return []
    return [
        "Of a single network the 95% interval over test images is usually "
        f"{formatting.joined(parts)}; it knows of the bias of the ECE."
    ]


def _masked(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which networks only look robust, where that was looked for."""
    looked = [curve["masked"] for curve in curves if isinstance(curve.get("masked"), list)]
    if not looked:
        return []
    signs = dict.fromkeys(str(sign) for found in looked for sign in found)
    if not signs:
        return [
            f"No sign of a masked gradient in {plural(len(looked), 'run')} where one would show."
        ]
    count = sum(bool(found) for found in looked)
    return [
        f"In {count} of {plural(len(looked), 'run')} the gradient is masked, and attacks that "
        f"follow it say little: {formatting.joined(signs)}."
    ]


def _temperatures(results: Results) -> list[str]:
    key = "calibration/temperature_bounded"
    bounded = sum(bool(metrics_of(result).get(key)) for result in results.values())
    if not bounded:
        return []
    return [
        f"In {bounded} of {plural(len(results), 'run')} the temperature is a "
        "bound of the fit or arbitrary, as where the validation split shows no error: "
        "the scaled numbers of these runs say little."
    ]


def _fitted_on(runs: pd.DataFrame) -> list[str]:
    """Say how many images the temperature was fitted on, the same for all runs."""
    sizes = sorted({int(size) for size in runs.get("data.validation", ()) if size == size})
    if not sizes:
        return []
    images = formatting.joined(f"{size:,}" for size in sizes)
    sentence = f"The temperature was fitted on {images} images"
    splits = runs[["dataset.name", "dataset.split_seed"]].drop_duplicates()
    if len(sizes) > 1 or len(splits) > 1:
        return [f"{sentence} of the validation split."]
    return [
        f"{sentence}, the same in all runs: what sets these apart from the test set shifts the "
        "scaled numbers of all runs alike, and is not in the intervals."
    ]


def _corrupted_files(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which files were measured, and what their errors are compared with."""
    notes: dict[str, None] = {}
    for files in (curve["files"] for curve in curves if isinstance(curve.get("files"), dict)):
        against = files.get("reference")
        ratio = f"mCE against {against}" if against else "no reference, so there is no mCE"
        parts = [f"Files: {files.get('set')}, {files.get('images'):,} images each; {ratio}"]
        if files.get("resized"):
            parts.append("resized to the network's images, which the published numbers are not of")
        if left_out := files.get("classes_left_out"):
            parts.append(f"{plural(int(left_out), 'class', 'classes')} of theirs left out")
        notes["; ".join(parts) + "."] = None
    return list(notes)


def _chances(results: Results) -> list[str]:
    """Say how a map without information scores."""
    notes = []
    for prefix, where in (("", "Chance"), ("boxes/", "Chance on own images")):
        parts = []
        for key, title in (("pointing", "pointing"), ("iou", "IoU"), ("energy", "energy")):
            name = f"localisation/{prefix}{key}/chance"
            mean = estimate([metrics_of(result).get(name) for result in results.values()]).mean
            if mean is not None:
                parts.append(f"{title} {formatting.number(mean)}%")
        if parts:
            notes.append(f"{where}: {formatting.joined(parts)}.")
    for prefix, where in (("placed", "placed images"), ("weak", "weakly labelled scenes")):
        parts = []
        for key, title in (
            ("pointing/chance", "pointing"),
            ("energy/chance", "energy"),
            ("mask_iou/chance", "mask IoU"),
            ("max_box_acc_v2/centre", "MaxBoxAccV2 of a map that is brightest in the middle"),
        ):
            if (prefix, key) == ("placed", "energy/chance"):
                continue
            name = f"localisation/{prefix}/{key}"
            mean = estimate([metrics_of(result).get(name) for result in results.values()]).mean
            if mean is not None:
                parts.append(f"{title} {formatting.number(mean)}%")
        if parts:
            notes.append(f"Chance on {where}: {formatting.joined(parts)}.")
    return notes


def _scenes(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how scenes were resized, and the resolution of the maps."""
    notes = []
    if small := sum(curve.get("whole") is False for curve in curves):
        grid = max(int(curve.get("grid") or 0) for curve in curves)
        notes.append(
            f"In {small} of {plural(len(curves), 'run')} the network takes images of its "
            f"own size alone, and sees the scenes resized to it, objects 1/{grid} as large: don't "
            "compare these runs with others."
        )
    sizes = sorted({tuple(curve["map"]) for curve in curves if curve.get("map")})
    if sizes:
        shown = formatting.joined(f"{height} × {width}" for height, width in sizes)
        notes.append(f"Maps have {shown} places for the scene: nothing finer can be scored.")
    return notes


def _boxed_images(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say which of the user's own images were left out."""
    counts = [curve["boxes"] for curve in curves if curve.get("boxes")]
    if not counts:
        return []
    images, trained, outside = (
        max(int(one.get(key) or 0) for one in counts) for key in ("images", "trained", "outside")
    )
    return [
        f"Own images: up to {images:,} with boxes; left out up to {trained:,} "
        f"that the network was trained or chosen on, and {outside:,} whose boxes are "
        "outside of the central square."
    ]
