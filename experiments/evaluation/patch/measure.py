"""Patch: accuracy where an adversarial patch covers 5 to 20 % of the image.

The universal patch (Brown et al. 2017, "Adversarial Patch", arXiv:1712.09665) is one for all images
and places, trained on validation images to make the network wrong, whatever it says instead. The
patch of one image is made for that image and its place. Both are square, may have any value from 0
to 1, and are at the same random place of each image. A patch hides as well: the blank one, in the
data set's mean colour, is at the same place, and says what that alone costs.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.evaluation.attack.apgd import apgd
from mixbench.experiments.evaluation.attack.ball import Ball
from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.patch import PatchSettings, universal
from mixbench.experiments.evaluation.patch.place import Places, side_of

KINDS = ("blank", "universal", "per_image")


def prepare(settings: PatchSettings, dataset: DatasetConfig) -> None:
    """Check that patches fit into the images.

    Args:
        settings: Their sizes.
        dataset: That of the runs.

    Raises:
        UserError: One is larger than the image, or smaller than a pixel.
    """
    for share in settings.shares:
        side_of(share, *dataset.sides)


def measure(subject: Subject, settings: PatchSettings) -> Measured:
    """Accuracy on `settings.images` test images with patches, by their share of the image.

    Metrics: `patch/clean`, and `patch/blank/0.1`, `patch/universal/0.1` and `patch/per_image/0.1`
    for a tenth of the image. Curves: `share` (realised) and `accuracy` by kind, from 0 on, and
    `side`, in pixels. Arrays: `universal_0.1`, (C,side,side) in [0,1].

    Args:
        subject: The network and its data.
        settings: Sizes, steps and images.

    Returns:
        Accuracies from 0 to 1.
    """
    height, width = subject.dataset.shape[1:]
    sides = [side_of(share, height, width) for share in settings.shares]
    right: Counter[tuple[str, float]] = Counter()
    clean = done = 0

    def predict(pixels: Tensor) -> Tensor:
        subject.beat()
        logits: Tensor = subject.network(subject.normalised(pixels))
        return logits

    with input_gradients(subject.network):
        patches = universal.train(subject, predict, settings, sides)
        for pixels, labels, where in subject.indexed(settings.images, settings.seed):
            with torch.no_grad():
                clean += int((predict(pixels).argmax(dim=1) == labels).sum())
            done += len(labels)
            for share, patch in zip(settings.shares, patches, strict=True):
                draws = ImageRandom(where, settings.seed, f"patch {share:.6g}")
                places = Places(draws, patch.shape[-1], height, width)
                blank = subject.dataset.mean.to(pixels).view(-1, 1, 1).expand_as(patch)
                for kind, one in (("blank", blank), ("universal", patch)):
                    with torch.no_grad():
                        found = predict(places.paste(pixels, one)).argmax(dim=1)
                    right[kind, share] += int((found == labels).sum())
                inside = places.inside
                ball = Ball.between(torch.where(inside, 0, pixels), torch.where(inside, 1, pixels))
                _, still = apgd(
                    predict,
                    labels,
                    ball,
                    ball.random(draws),
                    steps=settings.steps,
                    loss_name="margin",
                )
                right["per_image", share] += int(still.sum())
    metrics: dict[str, float | None] = {"patch/clean": clean / done}
    metrics |= {
        f"patch/{kind}/{share:.6g}": right[kind, share] / done
        for kind in KINDS
        for share in settings.shares
    }
    curves: dict[str, Any] = {
        "images": done,
        "share": [0.0, *(side * side / (height * width) for side in sides)],
        "side": sides,
        "accuracy": {
            kind: [clean / done, *(right[kind, share] / done for share in settings.shares)]
            for kind in KINDS
        },
    }
    arrays = {
        f"universal_{share:.6g}": patch.cpu().numpy()
        for share, patch in zip(settings.shares, patches, strict=True)
    }
    return Measured(metrics, curves, arrays)
