"""Attentive CutMix: the patches of the partner that a network responds to most, pasted in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.label_weights import declare_label_rule, label_rule

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class AttentiveCutMix(Method):
    """Paste the partner's patches with the largest features into each sample; labels by area.

    The mean over channels of the network's last maps of the partner is taken on a grid, and the
    patches of its k largest cells are copied to the same place.

    Source: Walawalkar et al. 2020, section 3: a grid of 7 x 7 patches of a 224 x 224 image, k = 6,
    every batch; nothing is drawn but the partner.

    Deviations: the maps are those of the network that is trained, at the time, where the authors
    have a ResNet-50 that was trained on ImageNet. Maps of another size are averaged, or repeated,
    to the grid.

    Args:
        patches: k, how many patches are pasted, less than `grid` squared.
        grid: Patches along each side.
        per_sample: Whether each sample gets the best patches of its own partner; if not, all have
            those of the first partner.
        labels: "area", "objects" or "saliency".
    """

    name: ClassVar[str] = "attentive_cutmix"
    summary: ClassVar[str] = "the partner's patches that a network responds to most, pasted in"
    paper: ClassVar[Paper] = Paper(
        "Walawalkar et al.",
        2020,
        "Attentive CutMix: An Enhanced Data Augmentation Approach for Deep Learning Based Image "
        "Classification",
        "2003.13048",
    )
    card: ClassVar[Card] = Card(
        "As SaliencyMix, by what the network itself looks at; it asks it once for a batch, "
        "and a young network looks at little.",
        {"Walawalkar et al. 2020": {}},
    )
    needs: ClassVar[frozenset[str]] = frozenset({"images", "model"})
    asks: ClassVar[frozenset[str]] = frozenset({"features"})
    passes: ClassVar[float] = 1.0

    patches: int = parameter(6, "how many patches are pasted", at_least=1)
    grid: int = parameter(7, "patches along each side of the image", at_least=2, at_most=32)
    per_sample: bool = parameter(
        True, "paste the best patches of each sample's own partner, not the first one's"
    )
    labels: str = label_rule(drawn=False)

    @property
    def home(self) -> Home:
        return Home(frozenset({"patches", "square"}), IMAGE)

    def check_combination(self) -> None:
        if self.patches >= self.grid**2:
            raise ValueError(
                f"attentive_cutmix.patches: got {self.patches}, expected less than the "
                f"{self.grid**2} cells of the grid"
            )
        declare_label_rule(self, self.labels)

    def check_size(self, height: int, width: int) -> None:
        if min(height, width) < self.grid:
            raise ValueError(
                f"attentive_cutmix.grid: got {self.grid}, expected at most the side of the images, "
                f"{height} x {width}"
            )

    def draw(self, draws: Draws) -> Plan:
        import torch
        import torch.nn.functional as F

        from mixbench.augmentations.plans.blend import Blend

        self.check_size(draws.height, draws.width)
        if draws.images is None or draws.model is None:
            raise ValueError("attentive_cutmix: expected draws with images and a model, got none")
        partner = draws.partners(self.pairing)
        pasted = draws.images.index_select(0, partner[: draws.rows])
        maps = draws.model.features(pasted).mean(dim=1, keepdim=True)
        cells = F.adaptive_avg_pool2d(maps, self.grid).flatten(1)
        best = cells.topk(self.patches, dim=1).indices
        keep = torch.ones_like(cells).scatter_(1, best, 0.0).view(-1, self.grid, self.grid)
        row, column = (
            torch.div(
                torch.arange(side, device=keep.device) * self.grid, side, rounding_mode="floor"
            )
            for side in (draws.height, draws.width)
        )
        keep = keep.index_select(1, row).index_select(2, column).unsqueeze(1)
        return weighed(Blend(keep, partner), self.labels, draws)
