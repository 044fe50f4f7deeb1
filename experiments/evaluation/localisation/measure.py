"""Localisation: whether a network's class activation maps show where the object of a class is.

Measured on scenes composed of test images, whose boxes are known, and on the user's own images with
boxes. Beside each metric stands `chance`, the score of a flat map.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.decode import Form
from mixbench.experiments.data.folder_listing import scan
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.evaluation.base import Measured, Subject, subset
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.localisation import LocalisationSettings, class_maps
from mixbench.experiments.evaluation.localisation.boxed_images import Boxed, boxed
from mixbench.experiments.evaluation.localisation.map_scores import scores
from mixbench.experiments.evaluation.localisation.scenes import Layout, layout
from mixbench.experiments.models.resizing import Resizing, resized

Predict = Callable[[Tensor], Tensor]
Sides = tuple[int, int]
METRICS = ("pointing", "iou", "energy")


def measure(subject: Subject, settings: LocalisationSettings) -> Measured:
    """How well Grad-CAM of the object's class (`class_maps`) finds its box, by `map_scores`.

    Each of `settings.images` test images is the object of one scene (`scenes`). A network that
    takes images of any size sees the scene whole, each cell as large as an image; another sees it
    resized to its own size. The same scenes for every network of a data set.

    Metrics: `localisation/pointing`, `/iou`, `/energy`, means over the scenes, each with
    `.../chance`; the same as `localisation/boxes/...` on the user's images. None where a map is not
    finite. Curves: which module the maps are of, their size, and how scenes were shown. Arrays: the
    scores by scene.

    Args:
        subject: The network and its data.
        settings: Scenes, threshold and boxes.

    Returns:
        Scores from 0 to 1.

    Raises:
        UserError: The test images are of one class, or the boxes don't fit the run.
        Impossible: The network has no spatial output.
    """
    images, labels = _pool(subject, settings)
    plan = layout(labels, settings.grid, settings.seed)
    map_scores: dict[str, Any] = {}
    with input_gradients(subject.network):
        with showing(subject, settings.grid) as (predict, size, whole):
            # As many pixels at once as of single images.
            batch = subject.config.evaluation.batch_size
            batch = max(1, batch // settings.grid**2) if whole else batch
            where = _map_layer(subject, predict, size)
            map_scores["scenes"] = _scored(
                subject,
                predict,
                where,
                labels,
                plan.boxes(),
                settings.threshold,
                _scenes(plan, images, batch),
            )
        curves: dict[str, Any] = {
            "images": len(labels),
            "grid": settings.grid,
            "size": size[0] if size[0] == size[1] else list(size),
            "whole": whole,
            "module": where.name,
            "map": list(where.size),
        }
        if settings.boxes is not None:
            name, classes = subject.config.dataset.name, subject.dataset.classes
            photographs = boxed(Path(settings.boxes), name, classes, form_of(subject))
            with showing(subject, 1) as (predict, size, _):
                map_scores["boxes"] = _scored(
                    subject,
                    predict,
                    _map_layer(subject, predict, size),
                    photographs.labels,
                    photographs.boxes,
                    settings.threshold,
                    _photographs(photographs, subject),
                )
            curves["boxes"] = {
                "images": len(photographs),
                "outside": photographs.outside,
                "trained": photographs.trained,
            }
    metrics: dict[str, float | None] = {}
    for kind, values in map_scores.items():
        prefix = "localisation" if kind == "scenes" else f"localisation/{kind}"
        for name in METRICS:
            metrics[f"{prefix}/{name}"] = _mean(values[name])
            metrics[f"{prefix}/{name}/chance"] = _mean(values[f"{name}_chance"])
    arrays = {
        f"{kind}_{name}": values[name].astype(np.float32)
        for kind, values in map_scores.items()
        for name in METRICS
    }
    return Measured(metrics, curves, arrays | {"scenes_label": labels.cpu().numpy()})


def prepare(settings: LocalisationSettings, dataset: DatasetConfig) -> None:
    """Check that the boxes of the settings fit runs on `dataset`.

    Args:
        settings: With the file of the boxes, if there is one.
        dataset: That of the runs.

    Raises:
        UserError: They don't fit.
    """
    if settings.boxes is not None:
        kind, _, folder = dataset.name.partition(":")
        classes = scan(folder).classes if kind == "imagefolder" else ()
        boxed(Path(settings.boxes), dataset.name, classes, Form(shape_of(dataset)))


def shape_of(dataset: DatasetConfig) -> Shape:
    """The shape of a run's images, and how pictures of other shapes get it."""
    return Shape(*dataset.sides, dataset.fit or "crop")


def form_of(subject: Subject) -> Form:
    """What becomes of the pictures of a run."""
    return Form(shape_of(subject.config.dataset), subject.dataset.scale)


@contextlib.contextmanager
def showing(subject: Subject, grid: int) -> Iterator[tuple[Predict, Sides, bool]]:
    """Show the network images that are `grid` times as large as its own.

    Args:
        subject: The network and its data.
        grid: Factor along each side.

    Yields:
        A function from such images (B,C,H,W) in [0,1] to logits, the height and width in pixels at
        which the network works on them, and whether that is `grid` times its own: a network that
        can't work at that size gets its own.
    """
    # A network with an `input_size` resizes what it gets.
    hooks = [
        hook for hook in subject.network._forward_pre_hooks.values() if isinstance(hook, Resizing)
    ]
    usual = [hook.size for hook in hooks]
    native = _sides(usual[-1]) if usual else subject.dataset.shape[1:]
    larger = (grid * native[0], grid * native[1])

    def sized(size: Sides) -> Predict:
        for hook in hooks:
            hook.size = size

        def predict(pixels: Tensor) -> Tensor:
            subject.beat()
            logits: Tensor = subject.network(resized(subject.normalised(pixels), size))
            return logits

        return predict

    try:
        whole = grid > 1 and _works(sized(larger), subject, larger)
        size = larger if whole else native
        yield sized(size), size, whole
    finally:
        for hook, before in zip(hooks, usual, strict=True):
            hook.size = before


def _sides(size: int | Sides) -> Sides:
    return (size, size) if isinstance(size, int) else size


def _works(predict: Predict, subject: Subject, size: Sides) -> bool:
    """Whether a network takes images of that size; only trying it can tell."""
    try:
        with torch.no_grad():
            predict(_noise(subject, size)[:1])
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, IndexError, RuntimeError, ValueError):
        return False
    return True


def _map_layer(subject: Subject, predict: Predict, size: Sides) -> class_maps.MapLayer:
    return class_maps.find_map_layer(subject.network, predict, _noise(subject, size))


def _noise(subject: Subject, size: Sides) -> Tensor:
    """Two images of that size, always the same."""
    shape = (2, subject.dataset.shape[0], *size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(subject.device)


def _pool(subject: Subject, settings: LocalisationSettings) -> tuple[Tensor, Tensor]:
    """The images that scenes are made of, uint8 (N,C,H,W), and their labels (N,)."""
    drawn = subset(subject.split("test"), settings.images, settings.seed)
    images, labels = [], []
    for raw, targets in drawn.batches(subject.config.evaluation.batch_size):
        subject.beat()
        images.append(raw)
        labels.append(targets)
    return torch.cat(images), torch.cat(labels)


def _scenes(plan: Layout, images: Tensor, batch: int) -> Iterator[tuple[Tensor, slice]]:
    for start in range(0, len(images), batch):
        part = slice(start, min(start + batch, len(images)))
        yield plan.compose(images, part), part


def _photographs(photographs: Boxed, subject: Subject) -> Iterator[tuple[Tensor, slice]]:
    batches = photographs.batches(subject.config.evaluation.batch_size)
    for raw, part in batches:
        yield raw.to(subject.device), part


def _scored(
    subject: Subject,
    predict: Predict,
    where: class_maps.MapLayer,
    labels: Tensor,
    boxes: Tensor,
    threshold: float,
    batches: Iterator[tuple[Tensor, slice]],
) -> dict[str, NDArray[np.float64]]:
    """The fields of `Scores` by name, (N,) each, of uint8 images (B,C,H,W) that come in batches."""
    columns: dict[str, list[Tensor]] = {}
    for raw, part in batches:
        wanted = labels[part].to(raw.device)
        small = class_maps.maps(subject.network, predict, raw.float() / 255, wanted, where)
        shown = F.interpolate(small.unsqueeze(1), raw.shape[2:], mode="bilinear").squeeze(1)
        finite = torch.isfinite(small).flatten(1).all(dim=1)
        scored = scores(
            torch.where(finite.view(-1, 1, 1), shown, 0), boxes[part].to(raw.device), threshold
        )
        for name, values in asdict(scored).items():
            known = values if name.endswith("chance") else torch.where(finite, values, torch.nan)
            columns.setdefault(name, []).append(known.cpu())
    return {name: torch.cat(values).numpy() for name, values in columns.items()}


def _mean(values: NDArray[np.float64]) -> float | None:
    mean = float(values.mean())
    return None if np.isnan(mean) else mean
