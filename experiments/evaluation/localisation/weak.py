"""Scores in scenes whose network was told only what is in them: weakly supervised localisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.augmentations.dense_targets import IGNORED_PIXEL
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.load import load_once
from mixbench.experiments.data.split import Split
from mixbench.experiments.design.tasks import MASKS
from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation.base import Measured, Subject, subset
from mixbench.experiments.evaluation.localisation import LocalisationSettings
from mixbench.experiments.evaluation.localisation.box_accuracy import (
    THRESHOLDS,
    Overlaps,
    box_overlaps,
    centre_overlaps,
    choose,
    scaled,
)
from mixbench.experiments.evaluation.localisation.map_scores import scores
from mixbench.experiments.evaluation.localisation.showing import (
    ShownMaps,
    map_layer,
    pool,
    showing,
    shown_maps,
)
from mixbench.experiments.evaluation.localisation.thresholded import accuracies, hits_of, mean_of

PREFIX = "localisation/weak"
SET = "fashion_scenes"
"""Whose scenes have masks beside their labels."""


@dataclass(frozen=True)
class Shown:
    """The labels that are there in some scenes, one after the other.

    Attributes:
        images: (N,C,H,W) uint8, the scenes.
        scene: (M,) int64, which of them.
        labels: (M,) int64, a label that is there.
        boxes: (M,K,4) float64, of all objects of that label: left, top, right, bottom as fractions;
            without an area where there are fewer than K.
    """

    images: Tensor
    scene: Tensor
    labels: Tensor
    boxes: Tensor

    def batches(self, size: int) -> Iterator[tuple[Tensor, slice]]:
        """Yield the scene of each label, so many at once."""
        for start in range(0, len(self.scene), size):
            part = slice(start, min(start + size, len(self.scene)))
            yield self.images[self.scene[part]], part


def shown_labels(images: Tensor, masks: Tensor) -> Shown:
    """List the labels of scenes with the boxes of their objects.

    Args:
        images: (N,C,H,W) uint8.
        masks: (N,2,H,W) uint8: classes, 0 for the background, label + 1 for objects and 255 where
            the class is open, and the number of the object, 0 for none.

    Examples:
        >>> masks = torch.zeros(1, 2, 4, 4, dtype=torch.uint8)
        >>> masks[0, :, 1:3, 2:] = torch.tensor([2, 1], dtype=torch.uint8).view(2, 1, 1)
        >>> shown = shown_labels(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), masks)
        >>> shown.labels.tolist(), shown.boxes.tolist()
        ([1], [[[0.5, 0.25, 1.0, 0.75]]])
    """
    _, _, height, width = masks.shape
    found: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    for scene, (classes, objects) in enumerate(masks.cpu().numpy()):
        for number in np.unique(objects[objects > 0]):
            rows, columns = np.nonzero(objects == number)
            # At its seams an object's class is open; its box goes up to them.
            known = classes[rows, columns]
            known = known[known != IGNORED_PIXEL]
            if not len(known):
                continue
            label = int(known[0]) - 1
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            fractions = tuple(np.divide(box, (width, height, width, height)).tolist())
            found.setdefault((scene, label), []).append(fractions)
    most = max(map(len, found.values()), default=1)
    boxes = torch.zeros(len(found), most, 4, dtype=torch.float64)
    for index, of_label in enumerate(found.values()):
        boxes[index, : len(of_label)] = torch.tensor(of_label, dtype=torch.float64)
    scenes, labels = torch.tensor(list(found), dtype=torch.int64).view(-1, 2).unbind(1)
    return Shown(images, scenes, labels, boxes)


def measure_weak(subject: Subject, settings: LocalisationSettings) -> Measured:
    """Score the map of every label that is in a scene; call it within `input_gradients`.

    `settings.images` test scenes are looked at, and thresholds are chosen on
    `settings.validation_images` validation scenes. Metrics `localisation/weak/...`: `pointing` and
    `energy` as of `map_scores`, with `.../chance`; `max_box_acc_v2` with `box_acc/30`, `/50` and
    `/70` as of `box_accuracy` (the box that fits best counts, where a label has several objects),
    and `max_box_acc_v2/centre`, what a Gaussian in the middle scores.

    Args:
        subject: A network with several labels for an image, on `fashion_scenes`.
        settings: How many scenes.
    """
    config = subject.config.dataset
    masked = load_once(config.model_copy(update={"targets": MASKS}), str(subject.device))
    validation, test = (
        _looked_at(subject, subject.split(name), split, count, settings.seed)
        for name, split, count in (
            ("validation", masked.validation, settings.validation_images),
            ("test", masked.test, settings.images),
        )
    )
    with showing(subject, 1) as (predict, size, _):
        where = map_layer(subject, predict, size)

        def maps_of(shown: Shown) -> Iterator[ShownMaps]:
            batches = shown.batches(subject.config.evaluation.batch_size)
            return shown_maps(subject, predict, where, shown.labels, batches)

        best = np.concatenate([_overlaps(validation, maps) for maps in maps_of(validation)])
        choice = choose(best, None)
        columns = [THRESHOLDS.index(one) for one in choice.boxes]
        hits: list[Overlaps] = []
        values: dict[str, list[NDArray[np.float64]]] = {}
        for maps in maps_of(test):
            hits.append(hits_of(_overlaps(test, maps)[:, columns]))
            scored = scores(maps.maps, test.boxes[maps.part].to(maps.maps.device))
            for name in ("pointing", "energy"):
                score = torch.where(maps.finite, getattr(scored, name), torch.nan)
                chance = getattr(scored, f"{name}_chance")
                values.setdefault(name, []).append(score.cpu().numpy())
                values.setdefault(f"{name}/chance", []).append(chance.cpu().numpy())
    scored_hits = np.concatenate(hits)
    metrics = {f"{PREFIX}/{name}": mean_of(np.concatenate(v)) for name, v in values.items()}
    metrics |= {f"{PREFIX}/{name}": value for name, value in accuracies(scored_hits).items()}
    metrics[f"{PREFIX}/max_box_acc_v2/centre"] = _centre(validation, test)
    curves = {
        "weak": {
            "scenes": len(test.images),
            "labels": len(test.labels),
            "validation_scenes": len(validation.images),
            "module": where.name,
            "map": list(where.size),
            "thresholds": list(choice.boxes),
        }
    }
    arrays = {"weak_hits": scored_hits.astype(np.float32), "weak_scene": test.scene.numpy()}
    return Measured(metrics, curves, arrays | {"weak_label": test.labels.numpy()})


def check_weak(dataset: DatasetConfig) -> None:
    """Raise Impossible where nothing says where the labels' objects are."""
    if dataset.targets == "multi_label" and dataset.name != SET:
        raise Impossible(
            f"needs to know where the objects of {dataset.name} are; of the data sets with several "
            f"labels for an image only {SET} says so"
        )


def _looked_at(subject: Subject, own: Split, masked: Split, count: int, seed: int) -> Shown:
    """The labels of some scenes of a split, whose masks the other data set has."""
    if len(own) != len(masked):
        raise Impossible(f"the scenes of {SET} are not those that have masks")
    images, _ = pool(subject, subset(own, count, seed))
    _, masks = pool(subject, subset(masked, count, seed))
    return shown_labels(images, masks)


def _overlaps(shown: Shown, maps: ShownMaps) -> Overlaps:
    found = box_overlaps(scaled(maps.maps), shown.boxes[maps.part])
    found[~maps.finite.cpu().numpy()] = np.nan
    return found


def _centre(validation: Shown, test: Shown) -> float | None:
    height, width = test.images.shape[2:]
    choice = choose(centre_overlaps(height, width, validation.boxes), None)
    overlaps = centre_overlaps(height, width, test.boxes, choice.boxes)
    return accuracies(hits_of(overlaps))["max_box_acc_v2"]
