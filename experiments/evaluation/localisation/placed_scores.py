"""Scores on scenes that line up with nothing: boxes and exact masks, thresholds from validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.data.object_masks import object_masks
from mixbench.experiments.evaluation.base import Measured, Subject, subset
from mixbench.experiments.evaluation.localisation import LocalisationSettings
from mixbench.experiments.evaluation.localisation.box_accuracy import (
    THRESHOLDS,
    Choice,
    Overlaps,
    box_overlaps,
    centre_overlaps,
    choose,
    mask_overlaps,
    scaled,
)
from mixbench.experiments.evaluation.localisation.map_scores import scores
from mixbench.experiments.evaluation.localisation.placed import (
    ITEMS,
    SIDE,
    place,
)
from mixbench.experiments.evaluation.localisation.showing import (
    ShownMaps,
    map_layer,
    pool,
    showing,
    shown_maps,
)
from mixbench.experiments.evaluation.localisation.thresholded import accuracies, hits_of, mean_of

PREFIX = "localisation/placed"
Values = dict[str, NDArray[np.float64]]


class _Scenes:
    """Scenes of some images, and what the maps of a network score on them."""

    def __init__(self, images: Tensor, labels: Tensor, seed: int, *, has_masks: bool) -> None:
        self.images, self.labels = images, labels
        self.plan = place(images, labels, seed)
        self.boxes = self.plan.boxes()
        self.objects = object_masks(images) if has_masks else None

    def batches(self, size: int) -> Iterator[tuple[Tensor, slice]]:
        for start in range(0, len(self.labels), size):
            part = slice(start, min(start + size, len(self.labels)))
            yield self.plan.compose(self.images, part), part

    def overlaps(
        self, shown: ShownMaps, boxes: tuple[float, ...], masks: tuple[float, ...]
    ) -> tuple[Overlaps, Overlaps | None]:
        """Of a batch of maps at these thresholds; NaN where a map is not finite."""
        maps, broken = scaled(shown.maps), ~shown.finite.cpu().numpy()
        found = box_overlaps(maps, self.boxes[shown.part], boxes)
        found[broken] = np.nan
        if self.objects is None:
            return found, None
        covered = mask_overlaps(maps, self.plan.masks(self.objects, shown.part), masks)
        covered[broken] = np.nan
        return found, covered


def measure_placed(
    subject: Subject, settings: LocalisationSettings, images: Tensor, labels: Tensor
) -> Measured:
    """Score maps on scenes of `placed`; call it within `input_gradients`.

    Thresholds are chosen on scenes of `settings.validation_images` validation images. Metrics
    `localisation/placed/...`: `pointing` and `energy` as of `map_scores`, with `.../chance`;
    `max_box_acc_v2` with `box_acc/30`, `/50` and `/70` as of `box_accuracy`, and
    `max_box_acc_v2/centre`, what a Gaussian in the middle scores with thresholds of its own; for
    data sets with a black background `mask_iou`, the mean IoU with the object's exact mask, and
    `mask_iou/chance`, that of a flat map. Those with thresholds are None where validation images
    are of one class.

    Args:
        subject: The network and its data.
        settings: How many scenes.
        images: (N,C,H,W) uint8, the test images that are objects.
        labels: (N,) int64, their classes.
    """
    has_masks = datasets.info(subject.config.dataset.name).black_background
    test = _Scenes(images, labels, settings.seed, has_masks=has_masks)
    split = subset(subject.split("validation"), settings.validation_images, settings.seed)
    validation = None
    if len(split.labels.unique()) > 1:
        validation = _Scenes(*pool(subject, split), settings.seed, has_masks=has_masks)
    with showing(subject, SIDE) as (predict, size, whole):
        batch = subject.config.evaluation.batch_size
        batch = max(1, batch // SIDE**2) if whole else batch
        where = map_layer(subject, predict, size)

        def maps_of(scenes: _Scenes) -> Iterator[ShownMaps]:
            return shown_maps(subject, predict, where, scenes.labels, scenes.batches(batch))

        choice = None if validation is None else _chosen(validation, maps_of(validation))
        values = _values(test, maps_of(test), choice)
    metrics: dict[str, float | None] = {
        f"{PREFIX}/{name.replace('_chance', '/chance')}": mean_of(column)
        for name, column in values.items()
        if name != "hits"
    }
    metrics |= {f"{PREFIX}/{name}": value for name, value in accuracies(values["hits"]).items()}
    metrics[f"{PREFIX}/max_box_acc_v2/centre"] = _centre(validation, test)
    curves: dict[str, Any] = {
        "images": len(labels),
        "validation_images": 0 if validation is None else len(validation.labels),
        "items": ITEMS,
        "side": SIDE,
        "whole": whole,
        "map": list(where.size),
        "thresholds": None if choice is None else list(choice.boxes),
        "mask_threshold": None if choice is None else choice.mask,
    }
    arrays = {f"placed_{name}": column.astype(np.float32) for name, column in values.items()}
    return Measured(metrics, curves, arrays)


def _chosen(scenes: _Scenes, maps: Iterator[ShownMaps]) -> Choice:
    found = [scenes.overlaps(shown, THRESHOLDS, THRESHOLDS) for shown in maps]
    masks = [covered for _, covered in found if covered is not None]
    boxes = np.concatenate([overlaps for overlaps, _ in found])
    return choose(boxes, np.concatenate(masks) if masks else None)


def _values(scenes: _Scenes, maps: Iterator[ShownMaps], choice: Choice | None) -> Values:
    """The scores by scene: pointing, energy, hits, mask_iou, and their chances."""
    columns: dict[str, list[NDArray[np.float64]]] = {}

    def note(name: str, column: NDArray[np.float64]) -> None:
        columns.setdefault(name, []).append(column)

    for shown in maps:
        scored = scores(shown.maps, scenes.boxes[shown.part].to(shown.maps.device))
        finite = shown.finite
        for name in ("pointing", "energy"):
            score = torch.where(finite, getattr(scored, name), torch.nan)
            note(name, score.cpu().numpy())
            note(f"{name}_chance", getattr(scored, f"{name}_chance").cpu().numpy())
        if choice is None:
            note("hits", np.full((len(finite), 3), np.nan))
            continue
        mask = () if choice.mask is None else (choice.mask,)
        overlaps, covered = scenes.overlaps(shown, choice.boxes, mask)
        note("hits", hits_of(overlaps))
        if covered is not None and scenes.objects is not None:
            note("mask_iou", covered[:, 0])
            truth = scenes.plan.masks(scenes.objects, shown.part)
            note("mask_iou_chance", truth.double().mean(dim=(1, 2)).cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _centre(validation: _Scenes | None, test: _Scenes) -> float | None:
    """MaxBoxAccV2 of a map that is brightest in the middle of every scene."""
    if validation is None:
        return None
    height, width = test.plan.canvas
    choice = choose(centre_overlaps(height, width, validation.boxes), None)
    overlaps = centre_overlaps(height, width, test.boxes, choice.boxes)
    return accuracies(hits_of(overlaps))["max_box_acc_v2"]
