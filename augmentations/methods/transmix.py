"""TransMix: CutMix whose labels weigh by the attention of a transformer's class token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, RECTANGLES, Home, Method, Paper, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class TransMix(Method):
    """Paste a box as CutMix does; in the loss, labels weigh by the attention that each part gets.

    The class token's attention to the patches of the mixed image, in the last block and the mean
    over heads, is summed over what is seen of each image. A label weighs the mean of its image's
    share of that sum and of its area. `plan` and `targets` of a batch have the areas alone, as the
    attention is known after the forward pass: `loss` weighs anew (`mixbench.training_loss` in a
    loop of your own).

    Source: Chen et al. 2022, section 3.3, and the authors' code, which takes the mean of the two
    weights (the paper's equation 4 has the attention alone: `share=1`). The attention has no
    gradient. The authors switch with MixUp by timm's rule: `choice` with `mixup`.

    Deviations: patches that a box covers in part count in part; the authors take the nearest pixel
    of the box's mask. For ViTs of timm with a class token, such as `timm/deit_tiny_patch16_224`.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        share: How much of a label's weight goes by the attention, the rest by the area.
    """

    name: ClassVar[str] = "transmix"
    summary: ClassVar[str] = "a box pasted in, labels by the attention of a ViT's class token"
    paper: ClassVar[Paper] = Paper(
        "Chen et al.", 2022, "TransMix: Attend to Mix for Vision Transformers", "2111.09833"
    )
    card: ClassVar[Card] = Card(
        "ViTs of timm: labels of a CutMix follow the attention, at no further pass. Other "
        "networks can't.",
        {
            "Chen et al. 2022, authors' code": {},
            "Chen et al. 2022, equation 4": {"share": 1.0},
        },
    )
    asks: ClassVar[frozenset[str]] = frozenset({"attention"})

    alpha: float = parameter(1.0, "λ ~ Beta(α, α), the area that is kept before clipping", above=0)
    share: float = parameter(
        0.5, "how much of a label's weight goes by the attention", at_least=0, at_most=1
    )

    @property
    def home(self) -> Home:
        return Home(RECTANGLES, IMAGE)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.paste import Paste
        from mixbench.augmentations.sampling.boxes import centred_box, cut_area, cut_sides

        height, width = cut_sides(draws, cut_area(draws, self.alpha))
        target = centred_box(draws, height, width).unsqueeze(1)
        partner = draws.partners(self.pairing).unsqueeze(1)
        return Paste((draws.height, draws.width), target, partner)

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:
        from mixbench.augmentations.targets import Targets, weighted

        logits, attention = forward.watch(mixed, "attention")
        index, area = mixed.plan.sources()
        weights = area + self.share * (_attended(mixed.plan, attention) - area)
        own = clean.targets
        if own.labels.shape[1] == 1:
            targets = Targets(own.labels[:, 0][index], weights)
        else:
            targets = weighted(own.weights, index, weights)
        return forward.loss(targets, logits)


def _attended(plan: Plan, attention: Tensor) -> Tensor:
    """Return the share of attention (B, h, w) that falls on each source of the images: (B, K)."""
    import torch
    import torch.nn.functional as F

    whole = torch.ones(plan.batch, 1, 1, 1, dtype=torch.float32, device=attention.device)
    shown = plan.pixel_shares(whole)[:, :, 0]
    if shown.shape[-2:] != (1, 1):
        shown = F.adaptive_avg_pool2d(shown, (attention.shape[1], attention.shape[2]))
    seen = (shown * attention.unsqueeze(1)).sum(dim=(2, 3))
    return seen / seen.sum(dim=1, keepdim=True)
