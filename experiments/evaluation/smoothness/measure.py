"""Smoothness: how fast a network's answer changes around an image, and how sure it is.

Gradients and distances are in pixels from 0 to 1 (before normalisation), Euclidean over all values
of an image; so they grow with the number of pixels, and are compared on the same data set alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import entr
from torch import Tensor

from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.gradients import input_gradients, slope
from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.metrics import probabilities
from mixbench.experiments.evaluation.smoothness import SmoothnessSettings

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def measure(subject: Subject, settings: SmoothnessSettings) -> Measured:
    """Input gradients and flips on `settings.images` test images, entropy and margin on all.

    Metrics: `smoothness/loss_gradient` (mean norm of the gradient of the cross-entropy);
    `smoothness/margin_gradient` (of the gap between the two largest logits);
    `smoothness/distance` (median over images of that gap over its gradient's norm: the distance to
    the decision boundary if the network were linear; None where it is infinite);
    `smoothness/flip/0.05` (share of predictions that change when Gaussian noise of deviation 0.05
    is added and the images are clipped to [0,1], over `draws` draws for each image);
    `smoothness/entropy` (mean, in nats) and `smoothness/margin` (mean gap between the two largest
    probabilities). None where a network gives no finite numbers. Curves: quantiles over images.

    Args:
        subject: The network and its data.
        settings: Noise and images.

    Returns:
        Gradients by pixels from 0 to 1, distances in these pixels, both Euclidean over an image.
    """
    norms: dict[str, list[Tensor]] = {name: [] for name in ("loss", "margin", "distance")}
    flips = dict.fromkeys(settings.sigmas, 0)
    done = 0
    with input_gradients(subject.network):
        for pixels, labels, where in subject.indexed(settings.images, settings.seed):
            loss, margin, gap, predicted = _slopes(subject, pixels, labels)
            norms["loss"].append(loss.cpu())
            norms["margin"].append(margin.cpu())
            # Without a gradient there is no boundary to be near to.
            distance = torch.where(margin > 0, gap / margin, torch.inf)
            norms["distance"].append(distance.cpu())
            done += len(labels)
            for draw in range(settings.draws):
                # The same noise for every deviation: more of it is further in one direction.
                noise = ImageRandom(where, settings.seed, f"flip {draw}").normal(
                    "noise", *pixels.shape[1:]
                )
                for sigma in settings.sigmas:
                    noisy = (pixels + sigma * noise).clamp_(0, 1)
                    flips[sigma] += int((_predicted(subject, noisy) != predicted).sum())
    values = {name: torch.cat(parts).double().numpy() for name, parts in norms.items()}
    probability = probabilities(subject.logits("test")[0])
    values["entropy"] = entropy(probability)
    values["top"] = margins(probability)
    metrics = {
        "smoothness/loss_gradient": _finite(values["loss"].mean()),
        "smoothness/margin_gradient": _finite(values["margin"].mean()),
        "smoothness/distance": _finite(np.median(values["distance"])),
        **{f"smoothness/flip/{s:g}": n / (done * settings.draws) for s, n in flips.items()},
        "smoothness/entropy": _finite(values["entropy"].mean()),
        "smoothness/margin": _finite(values["top"].mean()),
    }
    keys = {"loss": "loss_gradient", "margin": "margin_gradient", "top": "margin"}
    curves: dict[str, Any] = {"images": done, "draws": settings.draws, "quantile": list(QUANTILES)}
    curves |= {keys.get(name, name): _quantiles(array) for name, array in values.items()}
    return Measured(metrics, curves)


def entropy(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entropy of each row, -Σ p log p.

    Args:
        probability: (N,K); rows sum to 1.

    Returns:
        (N,) float64, in nats, from 0 to log K.

    Examples:
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4)
        array([0.6931, 0.    ])
    """
    entropies: NDArray[np.float64] = entr(probability).sum(axis=1)
    return entropies


def margins(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gap between the largest and the second largest value of each row.

    Args:
        probability: (N,K), K at least 2.

    Returns:
        (N,) float64, from 0 to 1.

    Examples:
        >>> margins(np.array([[0.25, 0.75], [0.5, 0.5]]))
        array([0.5, 0. ])
    """
    highest = np.partition(probability, -2, axis=1)
    return highest[:, -1] - highest[:, -2]


def _slopes(
    subject: Subject, pixels: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Norms of the gradients of loss and margin, the margin (of logits), the prediction: (B,)."""
    variable = pixels.detach().clone().requires_grad_(True)
    subject.beat()
    # In double precision: a confident network's loss has no gradient left in single.
    logits = subject.network(subject.normalised(variable)).double()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    of_loss = slope(loss, variable, keep=True)
    top = logits.topk(2, dim=1).values
    gap = top[:, 0] - top[:, 1]
    of_gap = slope(gap.sum(), variable)
    loss_norm, gap_norm = (part.double().flatten(1).norm(dim=1) for part in (of_loss, of_gap))
    # topk may take another of several equal logits than argmax does.
    return loss_norm, gap_norm, gap.detach(), logits.argmax(dim=1)


def _predicted(subject: Subject, pixels: Tensor) -> Tensor:
    subject.beat()
    with torch.no_grad():
        predicted: Tensor = subject.network(subject.normalised(pixels)).double().argmax(dim=1)
    return predicted


def _quantiles(values: NDArray[np.float64]) -> list[float | None]:
    # "lower" takes a value that is there, and so gives no NaN between two infinite ones.
    return [_finite(value) for value in np.quantile(values, QUANTILES, method="lower")]


def _finite(value: np.floating | float) -> float | None:
    return float(value) if np.isfinite(value) else None
