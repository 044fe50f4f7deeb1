"""PatchUp: blocks of feature maps exchanged or averaged with another sample's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.depths import at_depth, choose_depth, depths_parameter, sort_depths
from mixbench.augmentations.method import (
    IMAGE,
    RECTANGLES,
    Home,
    Method,
    Paper,
    parameter,
    prob_parameter,
)
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.label_weights import declare_label_rule, label_rule

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class PatchUp(Method):
    """Take blocks of a layer's maps from the partner, wholly or by a mean; labels by their share.

    h = M h + (1 - M) (λ h + (1 - λ) h[partner]), λ ~ Beta(2, 2); with `mode="hard"` λ is 0. The
    mask M is 0 in square blocks around positions that are drawn with probability
    γ H W / (b² (H - b + 1) (W - b + 1)), as DropBlock's, where b is the side of a block. The
    sample's label weighs what is unchanged, plus λ of the rest. At depth 0 it is CutMix with α = 1.
    Run the network within `mixbench.mixing_inside(model, batch.plan)`.

    Source: Faramarzi et al. 2020, equations 3 to 7, and the authors' code: γ = 0.9, blocks of 7 on
    maps of 32 pixels, one mask for the batch, 70% of the batches, the layer uniform among the
    input and the first ones. Their loss is the sum of two equal terms; here it is one, so that
    learning rates mean what they mean elsewhere.

    Deviations: one mask for all channels, where the authors' code has one for each. It is drawn at
    the resolution of the images; coarser maps have its mean, which is soft at the edges of blocks.
    The authors' first layer is the stem, here it is the first stage.

    Args:
        prob: Probability of mixing, applied once per batch, or once per sample with `per_sample`.
        mode: "soft" or "hard".
        gamma: The share of positions that blocks would alter if none overlapped.
        block: The side of a block, a fraction of the image's smaller side, rounded to an odd number
            of pixels.
        alpha: Both parameters of λ's Beta distribution, above 0.
        depths: The depths that are drawn from, each at least 0 and given once.
        labels: "area", "objects" or "saliency", of the positions that are mixed at any depth.
    """

    name: ClassVar[str] = "patchup"
    summary: ClassVar[str] = "blocks of a layer's maps exchanged or averaged, labels by their share"
    paper: ClassVar[Paper] = Paper(
        "Faramarzi et al.",
        2020,
        "PatchUp: A Feature-Space Block-Level Regularization Technique for Convolutional Neural "
        "Networks",
        "2006.07794",
    )
    card: ClassVar[Card] = Card(
        "Convolutional networks, where Manifold MixUp helps; its blocks keep features local.",
        {
            "Faramarzi et al. 2020": {},
            "Faramarzi et al. 2020, blocks exchanged": {"mode": "hard"},
        },
    )

    prob: float = prob_parameter(0.7)
    mode: str = parameter(
        "soft",
        "blocks are averaged with the partner's, or exchanged",
        choices=("soft", "hard"),
    )
    gamma: float = parameter(
        0.9, "share of positions that blocks would alter if none overlapped", above=0, at_most=1
    )
    block: float = parameter(
        0.22, "side of a block, a fraction of the image's smaller side", above=0, at_most=1
    )
    alpha: float = parameter(2.0, "λ ~ Beta(α, α), for mode=soft", above=0)
    depths: tuple[int, ...] = depths_parameter((0, 1, 2), "where it may mix")
    labels: str = label_rule(drawn=False)

    @property
    def home(self) -> Home:
        return Home(RECTANGLES | {"blobs"}, IMAGE)

    def check_combination(self) -> None:
        sort_depths(self)
        declare_label_rule(self, self.labels)

    @property
    def deepest(self) -> int:
        return max(self.depths)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.blend import Blend
        from mixbench.augmentations.plans.paste import Paste
        from mixbench.augmentations.sampling.boxes import centred_box, cut_sides

        depth = choose_depth(draws, self.depths)
        partner = draws.partners(self.pairing)
        if depth == 0:
            box = centred_box(draws, *cut_sides(draws, 1 - draws.beta(1.0)))
            plan = Paste((draws.height, draws.width), box.unsqueeze(1), partner.unsqueeze(1))
            return weighed(plan, self.labels, draws)
        if self.mode == "soft":
            kept = draws.blend_weights(self.alpha)
        else:
            kept = torch.zeros(1, dtype=torch.float32, device=draws.device)
        keep = torch.where(self._blocks(draws), kept, 1.0)
        return at_depth(weighed(Blend(keep, partner), self.labels, draws), depth)

    def _blocks(self, draws: Draws) -> Tensor:
        """Draw which positions lie in a block: (rows, 1, H, W) bool."""
        import torch.nn.functional as F

        height, width = draws.height, draws.width
        side = min(height, width)
        half = round((self.block * side - 1) / 2)
        half = max(0, min(half, (side - 1) // 2))
        side = 2 * half + 1
        fits = (height - side + 1) * (width - side + 1)
        chance = min(1.0, self.gamma * height * width / (side**2 * fits))
        centres = (draws.uniform(tries=height * width) < chance).float()
        centres = centres.view(-1, 1, height, width)
        return F.max_pool2d(centres, side, stride=1, padding=half) > 0
