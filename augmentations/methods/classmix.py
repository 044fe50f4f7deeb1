"""ClassMix: half of the classes that the partner's mask shows, pasted with their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.masked import MaskedMethod
from mixbench.augmentations.method import Paper, parameter
from mixbench.augmentations.sampling.label_weights import label_rule

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class ClassMix(MaskedMethod):
    """Paste all pixels of half of the partner's classes into each sample; labels by area.

    out = M x[partner] + (1 - M) x, where M is 1 where the partner's mask S has one of the classes
    that were drawn: half of the classes in S, rounded down, without replacement. Masks are (B, H,
    W) of whole numbers, classes or objects, from 0 to 255; `plan.mix_masks` mixes them too.

    Source: Olsson et al. 2021, section 3.2, and the authors' code (WilhelmT/ClassMix): every batch,
    255 is no class, the background is one. Theirs is a method for images without labels, whose
    masks a teacher predicts.

    Deviations: masks are those that are given. The authors paste sample i over sample i + 1, which
    is `pairing: roll` seen from the other side. An image whose mask has one class alone is not
    pasted, as theirs. `background: false` draws half of the values other than 0, but at least one,
    so that a mask of one object (Fashion-MNIST) always gives that object.

    Args:
        background: Whether the value 0 is a class as others.
        per_sample: Whether each sample gets pixels by its own partner's mask; if not, all by that
            of the first partner.
        labels: "area", "objects" or "saliency".
    """

    name: ClassVar[str] = "classmix"
    summary: ClassVar[str] = "the pixels of half of the partner's classes pasted in, by its mask"
    paper: ClassVar[Paper] = Paper(
        "Olsson et al.",
        2021,
        "ClassMix: Segmentation-Based Data Augmentation for Semi-Supervised Learning",
        "2007.07936",
    )
    card: ClassVar[Card] = Card(
        "Segmentation with few labelled images, or any data with masks of classes. With one "
        "object an image, `background: false`.",
        {
            "Olsson et al. 2021": {},
            "one object an image": {"background": False},
        },
    )

    background: bool = parameter(True, "the value 0 of masks is a class as others")
    per_sample: bool = parameter(
        True, "paste by the mask of each sample's own partner, not by the first one's"
    )
    labels: str = label_rule(drawn=False)

    def choose(self, values: Tensor, order: Tensor) -> Tensor:
        import torch

        from mixbench.augmentations.sampling.top_k_mask import top_k_mask

        if not self.background:
            values[:, 0] = False
        number = values.sum(dim=1)
        half = torch.div(number, 2, rounding_mode="floor")
        if not self.background:
            half = torch.maximum(half, number.clamp(max=1))
        # Float32 may draw the same number twice, which only favours the earlier of two classes.
        return top_k_mask(torch.where(values, order.float(), -1.0), half)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.sampling.mask_values import mask_values

        return self.paste(draws, mask_values(draws, self.name))
