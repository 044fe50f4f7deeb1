"""SnapMix: a box of the partner resized into another; labels by what a network sees in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, RECTANGLES, Home, Method, Paper, parameter
from mixbench.augmentations.parameters import CLASS_PAIRINGS
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.label_weights import NEEDED, declare_label_rule

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class SnapMix(Method):
    """Paste a box of the partner, resized to another box; labels by their semantic shares.

    Both boxes have sides of √(1 - λ) of the image's, each with a λ ~ Beta(α, α) and a place of its
    own. The semantic map S of an image is the class activation map of its label, resized to the
    image, less its smallest value, and divided by its sum. The sample's label weighs 1 less the sum
    of S in the box that is covered; the partner's weighs the sum of its own S in the box that is
    taken. The two weights need not sum to 1: the loss is their weighted sum.

    Source: Huang et al. 2021, section 3, equations 2 to 6, and the authors' code: α = 5, every
    batch, boxes as CutMix's, clipped at the border; nothing is mixed where a box is empty; where a
    map is constant, areas are the weights.

    Deviations: two labels of the same class weigh what the paper says, where the authors' code
    gives their sum to both. Boxes are resized about pixel centres (the authors' corners are
    aligned). The maps are those of the network that is trained, in evaluation mode.

    With another rule for `labels` the same boxes weigh by area, objects or saliency, and the
    network is not asked.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        labels: "semantic", the paper's; "area", "objects" or "saliency".
    """

    name: ClassVar[str] = "snapmix"
    summary: ClassVar[str] = "a box resized into another, labels by what a network sees in them"
    paper: ClassVar[Paper] = Paper(
        "Huang et al.",
        2021,
        "SnapMix: Semantically Proportional Mixing for Augmenting Fine-grained Data",
        "2012.04846",
    )
    card: ClassVar[Card] = Card(
        "Fine-grained classes, where the area says little about what makes the class. It asks "
        "the network once for a batch.",
        {"Huang et al. 2021": {}},
    )
    label_rule: ClassVar[str] = "declared"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "labels", "model"})
    asks: ClassVar[frozenset[str]] = frozenset({"class_maps"})
    passes: ClassVar[float] = 1.0

    alpha: float = parameter(5.0, "λ ~ Beta(α, α), of each of the two boxes", above=0)
    labels: str = parameter(
        "semantic",
        "labels weigh by what the network sees of each image, by the area that is mixed, or by how "
        "much of each image's object or of its saliency is seen",
        choices=("semantic", "area", *NEEDED),
        later=True,
    )

    @property
    def home(self) -> Home:
        return Home(RECTANGLES, IMAGE)

    def check_combination(self) -> None:
        if self.labels == "semantic":
            return
        unasked = {
            "label_rule": "pixels",
            "needs": frozenset(),
            "needs_images": False,
            "asks": frozenset(),
            "passes": 0.0,
        }
        for name, value in unasked.items():
            object.__setattr__(self, name, value)
        if self.pairing in CLASS_PAIRINGS:
            self.also_needs("labels")
        declare_label_rule(self, self.labels)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.paste import Paste
        from mixbench.augmentations.sampling.boxes import centred_box, cut_area, cut_sides

        size = draws.height, draws.width
        partner = draws.partners(self.pairing)
        target, source = (
            centred_box(draws, *cut_sides(draws, cut_area(draws, self.alpha))) for _ in range(2)
        )
        filled = (_area(target) > 0) & (_area(source) > 0)
        target, source = (torch.where(filled.view(-1, 1), box, 0) for box in (target, source))
        plan = Paste(
            size,
            target.unsqueeze(1).expand(draws.batch, -1, -1),
            partner.unsqueeze(1),
            source.unsqueeze(1).expand(draws.batch, -1, -1),
            resize=True,
        )
        if self.labels != "semantic":
            return weighed(plan, self.labels, draws)
        if draws.images is None or draws.labels is None or draws.model is None:
            raise ValueError("snapmix: expected draws with images, labels and a model, got none")
        maps = _semantic(draws.model.class_maps(draws.images, draws.labels), size)
        covered, taken = _inside(maps, target), _inside(maps.index_select(0, partner), source)
        weights = torch.stack([1 - covered, taken], dim=1).clamp(0, 1)
        return replace(plan, weights=weights, free_weights=True)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _semantic(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (B, h, w) at the images' size, at least 0, each with the sum 1."""
    import torch
    import torch.nn.functional as F

    large = F.interpolate(maps.unsqueeze(1), size, mode="bilinear", align_corners=False).squeeze(1)
    large = large - large.amin(dim=(1, 2), keepdim=True)
    total = large.sum(dim=(1, 2), keepdim=True)
    even = 1 / (size[0] * size[1])
    return torch.where(total > 0, large / total, even)


def _inside(maps: Tensor, boxes: Tensor) -> Tensor:
    """Return the sum of each map (B, H, W) inside its box, or the one box (rows, 4): (B,)."""
    import torch

    row = torch.arange(maps.shape[1], device=maps.device)
    column = torch.arange(maps.shape[2], device=maps.device)
    top, left, bottom, right = boxes.unsqueeze(-1).unbind(1)
    rows = ((row >= top) & (row < bottom)).float()
    columns = ((column >= left) & (column < right)).float()
    return (maps * rows.unsqueeze(2) * columns.unsqueeze(1)).sum(dim=(1, 2))
