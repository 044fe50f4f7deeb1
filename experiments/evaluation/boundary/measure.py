"""Decision boundaries: how far they are, and how sharply the prediction changes there.

Two ways lead to a boundary: the straight line to a test image of another class, which crosses what
lies between the classes, and the gradient, which takes a short way. Distances are Euclidean over
all values of an image, in pixels from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats.mstats import mjci
from torch import Tensor

from mixbench.experiments.errors import Impossible, UserError
from mixbench.experiments.evaluation.base import Measured, Subject, subset, subset_indices
from mixbench.experiments.evaluation.boundary import BoundarySettings
from mixbench.experiments.evaluation.boundary.search import (
    along_gradient,
    along_lines,
    steepness,
)
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.partners import class_count, partners

Values = dict[str, list[Tensor]]


def measure(subject: Subject, settings: BoundarySettings) -> Measured:
    """Boundaries on lines between images of two classes, and along the gradient.

    Metrics, of lines whose ends are predicted differently: `boundary/line/place` (mean share of
    the line until the prediction first changes), `line/steepness` (mean slope there of the gap
    between the two classes' probabilities, by the share of the line), `line/entropy` (of the
    prediction there, in nats), `line/changes` (how often the prediction changes along the line;
    1 is the least), `line/third` (share of the lines with a prediction that neither end has). Along
    the gradient: `boundary/path/distance` (median distance from the image to the boundary; None
    where half of the images reach none), `path/steepness` (mean norm at the boundary of the
    gradient of that gap) and `path/entropy`. Curves: along the lines, the shares of predictions
    and the mean entropy; `standard_error` over test images of each metric.

    Args:
        subject: The network and its data.
        settings: Images, places, steps.

    Returns:
        Distances in pixels from 0 to 1, slopes of probabilities, entropies in nats.

    Raises:
        Impossible: The test images are of one class.
    """
    of_lines: Values = {}
    of_paths: Values = {}
    along = np.zeros((settings.points, 4))
    done = 0
    with input_gradients(subject.network):
        for images, others in _pairs(subject, settings):
            done += len(images)
            _paths(subject, images, settings.steps, of_paths)
            along += _lines(subject, images, others, settings.points, of_lines)
    if not done:
        raise UserError("dataset: no image of the test split can be read")
    line = {name: torch.cat(parts).double().cpu().numpy() for name, parts in of_lines.items()}
    path = {name: torch.cat(parts).double().cpu().numpy() for name, parts in of_paths.items()}
    distance = path.pop("distance")
    estimates = {f"line/{name}": _mean(values) for name, values in line.items()}
    estimates["path/distance"] = _median(distance)
    estimates |= {f"path/{name}": _mean(values) for name, values in path.items()}
    lines = len(line["place"])
    along = along / lines if lines else along[:0]
    curves: dict[str, Any] = {
        "images": done,
        "lines": lines,
        "reached": float(np.isfinite(distance).mean()),
        "place": np.linspace(0, 1, settings.points).tolist() if lines else [],
        **dict(zip(("own", "other", "third", "entropy"), along.T.tolist(), strict=True)),
        "standard_error": {name: error for name, (_, error) in estimates.items()},
    }
    return Measured({f"boundary/{name}": value for name, (value, _) in estimates.items()}, curves)


def _paths(subject: Subject, images: Tensor, steps: int, values: Values) -> None:
    """Add distance, steepness and entropy of a batch, the last two where a boundary is reached."""

    def ask(images: Tensor) -> Tensor:
        return _logits(subject, images)

    at, after, is_reached = along_gradient(ask, images, steps)
    far = (at - images).double().flatten(1).norm(dim=1)
    _add(values, distance=torch.where(is_reached, far, torch.inf))
    at, after, before = at[is_reached], after[is_reached], _predicted(subject, images)[is_reached]
    slopes = steepness(ask, at, before, after).double().flatten(1).norm(dim=1)
    _add(values, steepness=slopes, entropy=_entropy(ask(at).detach()))


def _lines(
    subject: Subject, images: Tensor, others: Tensor, points: int, values: Values
) -> NDArray[np.float64]:
    """Add what lines of a batch show, of those whose ends are predicted differently.

    Returns sums over them, (points, 4): predictions as at the beginning, as at the end, others, and
    entropy.
    """

    def ask(images: Tensor) -> Tensor:
        return _logits(subject, images)

    line = along_lines(ask, images, others, points)
    predicted = line.predicted
    counts = predicted[0] != predicted[-1]
    own, other = predicted == predicted[0], predicted == predicted[-1]
    third = ~(own | other)
    at = line.boundary[counts]
    way = (others - images)[counts]
    slopes = steepness(ask, at, line.before[counts], line.after[counts])
    _add(
        values,
        place=line.place[counts],
        steepness=-(slopes.double() * way).flatten(1).sum(dim=1),
        entropy=_entropy(ask(at).detach()),
        changes=(predicted[1:] != predicted[:-1]).sum(dim=0)[counts],
        third=third.any(dim=0)[counts],
    )
    parts = torch.stack([own.double(), other.double(), third.double(), _entropy(line.logits)], 2)
    sums: NDArray[np.float64] = parts[:, counts].sum(dim=1).cpu().numpy()
    return sums


def _pairs(subject: Subject, settings: BoundarySettings) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of test images with as many of other classes, all in [0,1]."""
    test = subject.split("test")
    if class_count(test) < 2:
        raise Impossible("needs test images of two classes, got one class")
    indices = subset_indices(len(test), settings.images, settings.seed)
    others = subject.pixels(test.subset(partners(test.labels, indices, settings.seed)))
    for images, _ in subject.pixels(subset(test, settings.images, settings.seed)):
        other, _ = next(others)
        # Files that can't be read leave batches with fewer images.
        if len(images) and len(other):
            yield images, other[torch.arange(len(images), device=other.device) % len(other)]


def _logits(subject: Subject, images: Tensor) -> Tensor:
    subject.beat()
    # In double precision: a confident network's probabilities have no gradient left in single.
    logits: Tensor = subject.network(subject.normalised(images)).double()
    return logits


def _predicted(subject: Subject, images: Tensor) -> Tensor:
    with torch.no_grad():
        return _logits(subject, images).argmax(dim=1)


def _entropy(logits: Tensor) -> Tensor:
    log_probability = logits.log_softmax(dim=-1)
    return -(log_probability.exp() * log_probability).sum(dim=-1)


def _add(values: Values, **parts: Tensor) -> None:
    for name, part in parts.items():
        values.setdefault(name, []).append(part)


def _mean(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The mean, and its standard error over images."""
    if not len(values) or not np.isfinite(values).all():
        return None, None
    several = len(values) > 1
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if several else None
    return float(values.mean()), error


def _median(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The median, and its standard error over images (Maritz and Jarrett 1978)."""
    median = float(np.median(values)) if len(values) else np.inf
    if not np.isfinite(median):
        return None, None
    # The farthest have next to no weight: so many images as reach no boundary don't matter.
    finite = np.minimum(values, values[np.isfinite(values)].max())
    return median, float(mjci(finite, prob=[0.5])[0]) if len(values) > 1 else None
