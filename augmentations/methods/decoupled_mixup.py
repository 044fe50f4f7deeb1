"""Decoupled MixUp: a mixing method, with a loss in which its two classes don't compete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations import nested
from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Method, Paper, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class DecoupledMixUp(nested.Nested):
    """Mix with any method, and add a loss that asks for both classes, whatever their weights.

    loss = CE(z, mixed labels) - η mean(log φ(a; b) + log φ(b; a)), where φ(a; b) is the softmax
    exp(z_a) / Σ_{c ≠ b} exp(z_c) without the other class b of the image: features of a rare half
    are to be found with confidence too.

    Source: Liu et al. 2022 (later titled "Harnessing Hard Mixed Samples with Decoupled
    Regularizer"), equation of DM(CE), and the authors' code in openmixup (`use_mix_decouple`): η =
    0.1 for both classes, as in their ImageNet settings. Of images with more than two classes each
    one competes with those alone that the image doesn't have, as there.

    Deviations: images whose labels are one class, both halves being of it, have no second term, as
    there; theirs also leaves it out at λ = 1/2, a side effect of how they find the classes. Class
    weights and label smoothing are not applied to it. With `training.loss: bce` the second term is
    the same; their DM(BCE) changes the labels instead.

    Args:
        methods: The method that mixes; one. Several go into a `choice`.
        eta: The weight of the second term, at least 0.
    """

    name: ClassVar[str] = "decoupled_mixup"
    summary: ClassVar[str] = "a mixing method whose loss asks for both classes of an image"
    paper: ClassVar[Paper] = Paper(
        "Liu et al.",
        2022,
        "Decoupled Mixup for Data-efficient Learning",
        "2203.10761",
    )
    card: ClassVar[Card] = Card(
        "Beside any mixing method whose networks are under-confident: both classes of a mixed "
        "image may be sure.",
        {"Liu et al. 2022, ImageNet": {}},
    )

    methods: tuple[Method, ...] = nested.methods(("mixup",), "the method that mixes; one")
    eta: float = parameter(0.1, "the weight of the decoupled term of the loss", at_least=0)

    def check_combination(self) -> None:
        super().check_combination()
        if len(self.methods) != 1:
            raise ValueError(
                f"{self.name}.methods: got {len(self.methods)}, expected one; several go into a "
                "choice"
            )
        nested.refuse_hooks(self, "methods: expected one with the usual loss")

    @property
    def has_loss(self) -> bool:
        return True

    def draw(self, draws: Draws) -> Plan:
        return self.methods[0].decide(draws)

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:  # noqa: ARG002
        logits = forward(mixed)
        loss = forward.loss(mixed.targets, logits)
        present = mixed.targets.dense(logits.shape[1]) > 0
        return loss + self.eta * decoupled(logits, present)


def decoupled(logits: Tensor, present: Tensor) -> Tensor:
    """Return the mean over images of the summed losses of their classes, 0 for those with one.

    Each class is compared with those alone that the image doesn't have.

    Args:
        logits: (B, C).
        present: (B, C) bool, the classes of each image.
    """
    import torch

    logits = logits.float()
    # Far below every logit, yet finite: an image may have all classes.
    others = logits.masked_fill(present, -1e30).logsumexp(dim=1, keepdim=True)
    losses = torch.logaddexp(logits, others) - logits
    counts = present & (present.sum(dim=1, keepdim=True) > 1)
    return losses.masked_fill(~counts, 0).sum(dim=1).mean()
