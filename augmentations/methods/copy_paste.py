"""Copy-Paste: some of the partner's objects, pasted with their pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
class CopyPaste(MaskedMethod):
    """Paste some of the partner's objects over each sample, at the same place; labels by area.

    out = M x[partner] + (1 - M) x, where M is 1 on the objects that were drawn: each of the
    partner's with probability `share`, and at least one. Masks are (B, H, W) of whole numbers from
    0 to 255, a number for each object, 0 for the background. Boxes (`plan.mix_boxes`) that are
    hidden go, those that are seen keep the weight 1; with `masks` of the instances they are exact.

    Source: Ghiasi et al. 2021, section 3: a random subset of the objects, every batch, edges not
    blurred, as that made no difference. `zoom` above 1 is the enlarging half of their scale jitter:
    before pasting each image of the batch is enlarged by a factor from 1 to `zoom`, drawn
    uniformly, around a random place. They go from 0.1 to 2 and flip.

    Deviations: the paper does not say how large the subset is; torchvision's reference draws as
    many objects as there are, with replacement. Shrinking, which leaves a border without an image,
    and flips belong to the augmentation before mixing. An image without objects gives nothing.

    Args:
        share: The probability of each object, from 0 (always one) to 1 (all of them).
        zoom: The largest factor by which images are enlarged before, at least 1.
        per_sample: Whether each sample gets objects by its own partner's mask; if not, all by that
            of the first partner.
        labels: "area", "objects" or "saliency".
    """

    name: ClassVar[str] = "copy_paste"
    summary: ClassVar[str] = "some of the partner's objects pasted over the image, by its mask"
    paper: ClassVar[Paper] = Paper(
        "Ghiasi et al.",
        2021,
        "Simple Copy-Paste Is a Strong Data Augmentation Method for Instance Segmentation",
        "2012.07177",
    )
    card: ClassVar[Card] = Card(
        "Detection and segmentation of instances, with masks: objects come whole, on other "
        "backgrounds.",
        {
            "Ghiasi et al. 2021, without their scale jitter": {},
            "with its enlarging half": {"zoom": 2.0},
        },
    )

    share: float = parameter(
        0.5, "the probability of each object; at least one is pasted", at_least=0, at_most=1
    )
    zoom: float = parameter(
        1.0, "images are enlarged before, by up to this factor", at_least=1, at_most=8
    )
    per_sample: bool = parameter(
        True, "paste by the mask of each sample's own partner, not by the first one's"
    )
    labels: str = label_rule(drawn=False)

    def choose(self, values: Tensor, order: Tensor) -> Tensor:
        values[:, 0] = False
        # Values that are not there come last.
        order = order.masked_fill(~values, 2.0)
        first = order == order.amin(dim=1, keepdim=True)
        return values & ((order < self.share) | first)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.composite import chain
        from mixbench.augmentations.sampling.mask_values import mask_values

        masks = mask_values(draws, self.name)
        before: list[Plan] = []
        if self.zoom > 1:
            enlarged = self._enlarge(draws)
            before, whole = [enlarged], enlarged.expand(draws.batch)
            images = None if draws.images is None else whole.mix_images(draws.images)
            masks = whole.mix_masks(masks)
            draws = replace(draws, images=images, masks=masks)
        return chain([*before, self.paste(draws, masks)])

    def _enlarge(self, draws: Draws) -> Plan:
        """Draw a part of each image that is shown as the whole."""
        import torch

        from mixbench.augmentations.plans.paste import Paste

        factor = draws.uniform(1, self.zoom)
        size = draws.height, draws.width
        rows, columns = ((side / factor).round().clamp(min=1).to(torch.int64) for side in size)
        top = draws.integers(size[0] - rows + 1)
        left = draws.integers(size[1] - columns + 1)
        source = torch.stack([top, left, top + rows, left + columns], dim=1)
        target = source.new_tensor([0, 0, *size]).expand(len(source), 1, 4)
        itself = torch.arange(draws.batch, device=source.device).unsqueeze(1)
        return Paste(size, target, itself, source.unsqueeze(1), tiles=True, resize=True)
