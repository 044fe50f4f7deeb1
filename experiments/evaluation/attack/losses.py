"""What attacks climb: losses of each image, and their gradients by the image.

Log odds: the logarithm of how likely a wrong class is, over the right one. Margin: the largest
wrong logit less the right one (Carlini and Wagner 2017, "Towards Evaluating the Robustness of
Neural Networks", their f6). Both are above 0 where the right class has less than half, or not the
largest, of the probability; their gradients don't vanish where a network is confident.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.experiments.evaluation.attack import LossName
from mixbench.experiments.evaluation.gradients import slope

Predict = Callable[[Tensor], Tensor]
Ascent = tuple[Tensor, Tensor, Tensor]


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """The log odds against the label, logsumexp of the other logits less the label's.

    Args:
        logits: (B,K).
        labels: (B,) int64.

    Returns:
        (B,); its softplus is the cross-entropy.
    """
    label = labels.unsqueeze(1)
    others = logits.scatter(1, label, -torch.inf).logsumexp(dim=1)
    return others - logits.gather(1, label).squeeze(1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest other logit less the label's.

    Args:
        logits: (B,K).
        labels: (B,) int64.

    Returns:
        (B,), above 0 where the prediction is wrong.
    """
    label = labels.unsqueeze(1)
    others = logits.scatter(1, label, -torch.inf).amax(dim=1)
    return others - logits.gather(1, label).squeeze(1)


LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "margin": margin,
    "log_odds": log_odds,
}


def height(
    predict: Predict, images: Tensor, labels: Tensor, loss_name: LossName = "log_odds"
) -> tuple[Tensor, Tensor]:
    """The last two of `ascent`, without the gradient, which takes most of its time."""
    with torch.no_grad():
        logits = predict(images).double()
        loss = F.softplus(LOSSES[loss_name](logits, labels))
    return loss, logits.argmax(dim=1) == labels


def ascent(
    predict: Predict, images: Tensor, labels: Tensor, loss_name: LossName = "log_odds"
) -> Ascent:
    """The gradient to follow, the loss, and which images are classified right.

    The loss is the cross-entropy, softplus(a) of the log odds a against the label, or that of the
    margin. The gradient is that of a: it has the same signs, which are all that is used, and does
    not vanish where a network is so confident that the gradient of the loss rounds to 0. With that
    one FGSM would not move, and the network would seem robust.

    Args:
        predict: From images (B,C,H,W) in [0,1] to logits (B,K).
        images: (B,C,H,W) float32 in [0,1].
        labels: (B,) int64.
        loss_name: What to climb.

    Returns:
        The gradient by the images (B,C,H,W), the loss (B,) float64, and (B,) bool.
    """
    variable = images.detach().clone().requires_grad_(True)
    logits = predict(variable).double()
    against = LOSSES[loss_name](logits, labels)
    loss = F.softplus(against.detach())
    return slope(against.sum(), variable), loss, logits.argmax(dim=1) == labels
