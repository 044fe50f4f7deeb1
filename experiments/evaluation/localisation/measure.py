"""Localisation: whether a network's class activation maps show where the object of a class is.

Measured on scenes composed of test images, whose boxes are known, and on the user's own images with
boxes. Beside each metric stands `chance`, the score of a flat map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config.datasets import has_files
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.decode import Form
from mixbench.experiments.data.folder_listing import listing_of
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.evaluation.base import Measured, Subject, subset
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.localisation import LocalisationSettings
from mixbench.experiments.evaluation.localisation.box_accuracy import box_overlaps, scaled
from mixbench.experiments.evaluation.localisation.boxed_images import Boxed, boxed
from mixbench.experiments.evaluation.localisation.map_scores import scores
from mixbench.experiments.evaluation.localisation.placed_scores import measure_placed
from mixbench.experiments.evaluation.localisation.scenes import Layout, layout
from mixbench.experiments.evaluation.localisation.showing import (
    ShownMaps,
    map_layer,
    pool,
    showing,
    shown_maps,
)
from mixbench.experiments.evaluation.localisation.thresholded import cross_fitted, mean_of
from mixbench.experiments.evaluation.localisation.weak import check_weak, measure_weak

METRICS = ("pointing", "iou", "energy")
Results = dict[str, NDArray[np.float64]]


def measure(subject: Subject, settings: LocalisationSettings) -> Measured:
    """How well Grad-CAM of the object's class (`class_maps`) finds its box, by `map_scores`.

    Each of `settings.images` test images is the object of one scene (`scenes`). A network that
    takes images of any size sees the scene whole, each cell as large as an image; another sees it
    resized to its own size. The same scenes for every network of a data set. The same images are
    the objects of scenes that line up with nothing (`placed_scores`).

    Metrics: `localisation/pointing`, `/iou`, `/energy`, means over the scenes, each with
    `.../chance`; the same as `localisation/boxes/...` on the user's images, and there
    `.../max_box_acc_v2` with `.../box_acc/30`, `/50` and `/70` (`thresholded.cross_fitted`);
    `localisation/placed/...` as of `placed_scores`. Of runs with several labels for an image,
    `localisation/weak/...` alone, as of `weak`. None where a map is not finite. Curves: which
    module the maps are of, their size, and how scenes were shown. Arrays: the scores by scene.

    Args:
        subject: The network and its data.
        settings: Scenes, threshold and boxes.

    Returns:
        Scores from 0 to 1.

    Raises:
        UserError: The test images are of one class, or the boxes don't fit the run.
        Impossible: The network has no spatial output.
    """
    if subject.config.dataset.targets == "multi_label":
        with input_gradients(subject.network):
            return measure_weak(subject, settings)
    images, labels = pool(subject, subset(subject.split("test"), settings.images, settings.seed))
    with input_gradients(subject.network):
        values, curves = _of_scenes(subject, settings, images, labels)
        placed = measure_placed(subject, settings, images, labels)
        metrics = _means("localisation", values) | placed.metrics
        arrays = {f"scenes_{name}": values[name].astype(np.float32) for name in METRICS}
        curves["placed"] = placed.curves
        if settings.boxes is not None:
            values, more, curves["boxes"] = _of_own_images(subject, settings)
            metrics |= _means("localisation/boxes", values) | more
            arrays |= {f"boxes_{name}": values[name].astype(np.float32) for name in METRICS}
    arrays |= placed.arrays
    return Measured(metrics, curves, arrays | {"scenes_label": labels.cpu().numpy()})


def _of_scenes(
    subject: Subject, settings: LocalisationSettings, images: Tensor, labels: Tensor
) -> tuple[Results, dict[str, Any]]:
    plan = layout(labels, settings.grid, settings.seed)
    with showing(subject, settings.grid) as (predict, size, whole):
        # As many pixels at once as of single images.
        batch = subject.config.evaluation.batch_size
        batch = max(1, batch // settings.grid**2) if whole else batch
        where = map_layer(subject, predict, size)
        maps = shown_maps(subject, predict, where, labels, _scenes(plan, images, batch))
        values = _scored(maps, plan.boxes(), settings.threshold)
    return values, {
        "images": len(labels),
        "grid": settings.grid,
        "size": size[0] if size[0] == size[1] else list(size),
        "whole": whole,
        "module": where.name,
        "map": list(where.size),
    }


def _of_own_images(
    subject: Subject, settings: LocalisationSettings
) -> tuple[Results, dict[str, float | None], dict[str, Any]]:
    """The scores by image, the metrics with chosen thresholds, and what was left out."""
    name, classes = subject.config.dataset.name, subject.dataset.classes
    photographs = boxed(
        Path(str(settings.boxes)), settings.images_of_boxes, name, classes, form_of(subject)
    )
    overlaps: list[NDArray[np.float64]] = []

    def noting(maps: Iterator[ShownMaps]) -> Iterator[ShownMaps]:
        for shown in maps:
            found = box_overlaps(scaled(shown.maps), photographs.boxes[shown.part])
            found[~shown.finite.cpu().numpy()] = np.nan
            overlaps.append(found)
            yield shown

    with showing(subject, 1) as (predict, size, _):
        where = map_layer(subject, predict, size)
        batches = _photographs(photographs, subject)
        maps = shown_maps(subject, predict, where, photographs.labels, batches)
        values = _scored(noting(maps), photographs.boxes, settings.threshold)
    more = {
        f"localisation/boxes/{key}": value
        for key, value in cross_fitted(np.concatenate(overlaps)).items()
    }
    counts = {
        "images": len(photographs),
        "outside": photographs.outside,
        "trained": photographs.trained,
        "crowds": photographs.crowds,
    }
    return values, more, counts


def _means(prefix: str, values: Results) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in METRICS:
        means[f"{prefix}/{name}"] = mean_of(values[name])
        means[f"{prefix}/{name}/chance"] = mean_of(values[f"{name}_chance"])
    return means


def prepare(settings: LocalisationSettings, dataset: DatasetConfig) -> None:
    """Check that the boxes of the settings fit runs on `dataset`.

    Args:
        settings: With the file of the boxes, if there is one.
        dataset: That of the runs.

    Raises:
        UserError: They don't fit.
    """
    check_weak(dataset)
    if settings.boxes is not None:
        classes = listing_of(dataset.name).classes if has_files(dataset.name) else ()
        boxed(
            Path(settings.boxes),
            settings.images_of_boxes,
            dataset.name,
            classes,
            Form(shape_of(dataset)),
        )


def shape_of(dataset: DatasetConfig) -> Shape:
    """The shape of a run's images, and how pictures of other shapes get it."""
    return Shape(*dataset.sides, dataset.fit or "crop")


def form_of(subject: Subject) -> Form:
    """What becomes of the pictures of a run."""
    return Form(shape_of(subject.config.dataset), subject.dataset.scale)


def _scenes(plan: Layout, images: Tensor, batch: int) -> Iterator[tuple[Tensor, slice]]:
    for start in range(0, len(images), batch):
        part = slice(start, min(start + batch, len(images)))
        yield plan.compose(images, part), part


def _photographs(photographs: Boxed, subject: Subject) -> Iterator[tuple[Tensor, slice]]:
    batches = photographs.batches(subject.config.evaluation.batch_size)
    for raw, part in batches:
        yield raw.to(subject.device), part


def _scored(
    maps: Iterator[ShownMaps], boxes: Tensor, threshold: float
) -> dict[str, NDArray[np.float64]]:
    """The fields of `Scores` by name, (N,) each."""
    columns: dict[str, list[Tensor]] = {}
    for shown in maps:
        scored = scores(shown.maps, boxes[shown.part].to(shown.maps.device), threshold)
        for name, values in asdict(scored).items():
            is_known = name.endswith("chance")
            known = values if is_known else torch.where(shown.finite, values, torch.nan)
            columns.setdefault(name, []).append(known.cpu())
    return {name: torch.cat(values).numpy() for name, values in columns.items()}
