"""Mean average precision as COCO defines it (Lin et al. 2014), by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixbench.experiments.data.object_rows import Objects

WHOLE = 0.999
"""Objects with a visible share below this are partly hidden."""


def average_precisions(
    found: Tensor, objects: Objects, *, hidden: bool = True
) -> dict[str, float | None]:
    """Return the metrics of a split; None where nothing is to be found.

    - map50, map: the mean over classes of the area below the curve of precision over recall,
      detections sorted by their scores; at an IoU of 0.5, and the mean over 0.5, 0.55, ..., 0.95.
    - map50_hidden: map50 of the objects that others hide a part of; boxes found around the other
      ones don't count (`ignore`, as around COCO's crowds).
    - recall: the largest recall with 100 boxes an image, mean over the overlaps and classes.

    Args:
        found: (N,D,6): left, top, right, bottom, score, class; scores of 0 for none.
        objects: The truth.
        hidden: Whether to measure `map50_hidden` too, which takes as long again.
    """
    whole = objects.visible >= WHOLE
    every = _summary(found, objects, torch.zeros_like(whole))
    some_hidden = bool((objects.there & ~whole).any())
    of_hidden = _summary(found, objects, whole)["map_50"] if hidden and some_hidden else None
    return {
        "map50": _value(every["map_50"]),
        "map": _value(every["map"]),
        "map50_hidden": None if of_hidden is None else _value(of_hidden),
        "recall": _value(every["mar_100"]),
    }


def _summary(found: Tensor, objects: Objects, ignored: Tensor) -> dict[str, Any]:
    from torchmetrics.detection import MeanAveragePrecision

    # One rank has gathered everything: waiting for the others would never end.
    metric = MeanAveragePrecision(backend="faster_coco_eval", sync_on_compute=False)
    metric.warn_on_many_detections = False
    there = objects.there
    truth = [
        {"boxes": boxes[rows], "labels": labels[rows], "iscrowd": crowd[rows].long()}
        for boxes, labels, crowd, rows in zip(
            objects.boxes, objects.labels, ignored, there, strict=True
        )
    ]
    sure = found[..., 4] > 0
    detections = [
        {"boxes": one[rows, :4], "scores": one[rows, 4], "labels": one[rows, 5].long()}
        for one, rows in zip(found, sure, strict=True)
    ]
    metric.update(detections, truth)
    return metric.compute()


def _value(number: Tensor) -> float | None:
    """COCO has -1 where there is nothing to be found."""
    value = float(number)
    return None if value < 0 else value
