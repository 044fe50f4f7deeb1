"""Check the form of label weights, and that they are the shares of the pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations.contract.case import Case, pixels_of
from mixbench.augmentations.contract.promise import expect, expect_close, expect_equal, promise
from mixbench.augmentations.plans.composite import stages_of


@promise("labels are (B, K) int64 of the batch's classes; weights float32, and each row sums to 1")
def weights_sum_to_one(case: Case) -> None:
    images = case.images()
    plan = case.sample(images)
    for labels in (case.labels(), case.soft_labels()):
        targets = plan.mix_labels(labels, 10)
        weights = targets.weights
        expect(targets.labels.dtype == torch.int64, f"labels are {targets.labels.dtype}")
        expect(weights.dtype == torch.float32, f"label weights are {weights.dtype}")
        shape = tuple(weights.shape)
        expect(
            tuple(targets.labels.shape) == shape and len(shape) == 2 and shape[0] == case.batch,
            f"labels {tuple(targets.labels.shape)} with weights {shape}, expected both "
            f"({case.batch}, K)",
        )
        expect(
            targets.labels.device == weights.device == images.device,
            f"labels on {targets.labels.device} and weights on {weights.device}",
        )
        low = float(weights.min())
        expect(low >= 0, f"a label weight is {low:.4g}")
        total = weights.sum(dim=1)
        if not plan.has_free_weights:
            expect_close(total, torch.ones_like(total), "the weights of a sample add up wrongly")
        if labels.dim() == 1:
            strange = set(targets.labels.flatten().tolist()) - set(labels.tolist())
            expect(not strange, f"classes {sorted(strange)} are not in the batch")
        by_hand = _added_up(targets.labels, weights, 10)
        expect_close(targets.dense(10), by_hand, "`dense` is not the weighted labels added up")


def _added_up(labels: Tensor, weights: Tensor, classes: int) -> Tensor:
    dense = torch.zeros(labels.shape[0], classes, dtype=torch.float64)
    for row, (names, shares) in enumerate(zip(labels.tolist(), weights.tolist(), strict=True)):
        for name, share in zip(names, shares, strict=True):
            dense[row, name] += share
    return dense


@promise("each label weighs as much as its image has of the pixels", label_rules=("pixels",))
def shares_are_pixels(case: Case) -> None:
    images = case.one_hot_images()
    samples = torch.arange(case.batch, device=case.device)
    for seed in range(case.seed, case.seed + 3):
        plan = case.sample(images, seed=seed)
        shown = pixels_of(plan, images).double().mean(dim=(2, 3))
        claimed = plan.mix_labels(samples, case.batch).dense(case.batch).double()
        worst = int((shown - claimed).abs().nan_to_num(float("inf")).argmax())
        row, source = worst // case.batch, worst % case.batch
        expect_close(
            claimed,
            shown,
            f"the label of sample {source} in mixed sample {row} has a weight that is not its "
            "share of the pixels",
        )


@promise("an image's colour and its label weights tell the same", label_rules=("pixels",))
def colours_follow_weights(case: Case) -> None:
    generator = torch.Generator().manual_seed(9)
    colours = (torch.rand(case.batch, 3, generator=generator) * 10 - 5).to(case.device)
    images = colours.view(case.batch, 3, 1, 1).repeat(1, 1, *case.size)
    plan = case.sample(images)
    samples = torch.arange(case.batch, device=case.device)
    weights = plan.mix_labels(samples, case.batch).dense(case.batch).double()
    expect_close(
        pixels_of(plan, images).double().mean(dim=(2, 3)),
        weights @ colours.double(),
        "the mean colour is not that of the label weights",
        atol=2e-5,
    )


@promise(
    "a method that keeps labels gives each sample its own, with weight 1", label_rules=("kept",)
)
def labels_kept(case: Case) -> None:
    plan = case.sample(case.images())
    labels = case.labels()
    targets = plan.mix_labels(labels, 10)
    expect_equal(targets.labels, labels.view(-1, 1), "labels were changed")
    expect_equal(targets.weights, torch.ones_like(targets.weights), "a weight is not 1")
    masks = torch.arange(case.batch, device=case.device).view(-1, 1, 1).repeat(1, *case.size)
    expect_equal(plan.mix_masks(masks), masks, "masks were changed")


@promise("hard labels, one-hot labels and soft labels give the same mix")
def hard_and_soft_agree(case: Case) -> None:
    labels, soft = case.labels(), case.soft_labels()
    plan = case.sample(case.images())
    hard = plan.mix_labels(labels, 10).dense(10)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        one_hot = F.one_hot(labels, 10).to(dtype)
        expect_close(plan.mix_labels(one_hot, 10).dense(10), hard, "one-hot labels mix differently")
    if "bank" in case.method().needs:
        return  # the labels of the earlier batch are no samples of this one
    samples = torch.arange(case.batch, device=case.device)
    expect_close(
        plan.mix_labels(soft, 10).dense(10),
        plan.mix_labels(samples, case.batch).dense(case.batch) @ soft,
        "soft labels are not mixed with the weights of their samples",
    )


@promise("the loss is the weighted sum of the index losses, gradients included")
def loss_is_weighted_sum(case: Case) -> None:
    generator = torch.Generator().manual_seed(5)
    scores = (torch.randn(case.batch, 10, generator=generator) * 4).to(case.device)
    targets = case.sample(case.images()).mix_labels(case.labels(), 10)
    for smoothing in (0.0, 0.1):
        logits = scores.clone().requires_grad_()
        loss = targets.cross_entropy(logits, smoothing)
        (gradient,) = torch.autograd.grad(loss, logits)
        copy = scores.clone().requires_grad_()
        summed = torch.zeros(case.batch, device=case.device)
        for column in range(targets.labels.shape[1]):
            index_loss = F.cross_entropy(
                copy, targets.labels[:, column], label_smoothing=smoothing, reduction="none"
            )
            summed = summed + targets.weights[:, column] * index_loss
        (by_hand,) = torch.autograd.grad(summed.mean(), copy)
        expect_close(loss, summed.mean(), "the loss differs", atol=1e-5, rtol=1e-5)
        expect_close(gradient, by_hand, "the gradient of the loss differs", atol=1e-6, rtol=1e-5)


@promise("pairing same_class pairs samples of one class, other_class those of two", once=True)
def pairs_by_class(case: Case) -> None:
    if "bank" in case.method().needs:
        return  # an earlier batch comes as it is
    labels = torch.arange(8, device=case.device) % 3
    images = case.noise(len(labels), case.channels, *case.size)
    for pairing in ("same_class", "other_class"):
        method = case.method(pairing=pairing)
        plan = method.sample(
            images.shape,
            device=images.device,
            generator=case.generator(),
            images=images,
            labels=labels,
            **case.given(method, images),
        )
        if pairing == "other_class" and len(stages_of(plan)) > 1:
            continue  # the partner of a partner may be of any class
        index, share = plan.sources()
        others = (index != torch.arange(len(labels), device=case.device).unsqueeze(1)) & (share > 0)
        alike = labels[index] == labels.unsqueeze(1)
        expect(
            bool((alike == (pairing == "same_class"))[others].all()),
            f"with pairing={pairing} a sample has a partner of "
            f"{'another' if pairing == 'same_class' else 'its own'} class",
        )
