"""The losses of images without labels, from logits and what a teacher answered.

Answers and logits are (U, K), or (U, K, H, W) for maps; a plan mixes answers as it does images.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations.dense_targets import IGNORED_PIXEL
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend


def mix_answers(plan: Plan, answers: Tensor) -> Tensor:
    """Return the probabilities of mixed images, by the shares of their sources."""
    if answers.dim() == 2:
        return plan.mix_labels(answers, answers.shape[1]).dense(answers.shape[1])
    return plan.mix_masks(answers)


def confident_share(answers: Tensor, threshold: float) -> Tensor:
    """Return the share of answers (of pixels, for maps) whose largest probability counts."""
    return (answers.amax(1) >= threshold).float().mean()


def pseudo_label_loss(
    logits: Tensor,
    answers: Tensor,
    plan: Plan,
    threshold: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return FixMatch's loss: cross-entropy with the likeliest class, where that is sure enough.

    Sohn et al. 2020, equation 4: the mean over all images (or pixels), those that don't count
    included. A mixed image has the classes of its sources by their shares, each if it counts.
    """
    confidence, labels = answers.max(1)
    unsure = confidence < threshold
    if logits.dim() == 2:
        targets = plan.mix_labels(labels.masked_fill(unsure, -100), logits.shape[1])
        summed = targets.cross_entropy(logits, reduction="sum", class_weights=class_weights)
        return summed / max(1, len(logits))
    masks = labels.masked_fill(unsure, IGNORED_PIXEL)
    losses = plan.mix_dense(masks).cross_entropy(
        logits, reduction="none", class_weights=class_weights
    )
    return losses.mean()


def squared_loss(
    logits: Tensor, answers: Tensor, threshold: float, class_weights: Tensor | None = None
) -> Tensor:
    """Return the squared difference of probabilities, summed over classes, times a share.

    The share is that of answers sure enough (French et al. 2020, section 4.1 and their code).

    Args:
        answers: Already mixed.
        class_weights: (K,), how much a pixel counts by its answer; None: all alike.
    """
    difference = (F.softmax(logits.float(), dim=1) - answers).square().sum(1)
    if class_weights is not None:
        difference = difference * torch.einsum("uk...,k->u...", answers, class_weights)
    return difference.mean() * confident_share(answers, threshold)


def mean_squared_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Return the mean over images and classes of the squared difference: MixMatch and ICT."""
    return F.mse_loss(F.softmax(logits.float(), dim=1), answers)


def sharpen(answers: Tensor, temperature: float) -> Tensor:
    """Return MixMatch's equation 7: probabilities to the power 1/T, made to sum to 1."""
    powers = answers ** (1 / temperature)
    return powers / powers.sum(1, keepdim=True)


def nearer_to_itself(plan: Blend) -> Blend:
    """Return the plan with the larger of both shares for each sample's own image.

    Berthelot et al. 2019, equations 8 to 11: λ' = max(λ, 1 - λ).
    """
    return replace(plan, keep=torch.maximum(plan.keep, 1 - plan.keep))
