"""PuzzleMix: a mask that shows what is salient in two images, and blocks moved to be seen in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws

SPREAD = 0.25
"""About the deviation of pixels from 0 to 1: the scale of the authors' differences of pixels."""
MOST_MOVED = 16
"""Blocks along each side that are moved: their costs are compared by pairs, 65,536 for 16."""


@dataclass(frozen=True, kw_only=True)
class PuzzleMix(Method):
    """Choose for each block whose image it shows, by saliency; labels by the mask's mean.

    out = Z (Π x) + (1 - Z) (Π' x[partner]). The mask Z has one of `levels` values between 0 and 1
    in each block, and minimises the saliency that is hidden, with a penalty for neighbours that
    differ and a prior for a mean of λ, λ ~ Beta(α, α). Then Π and Π' move blocks of each image to
    places that the mask shows, near ones at a lower cost. Saliency is the root of the mean square
    over channels of the gradient of an image's cross-entropy by its pixels.

    Source: Kim et al. 2020, section 4 and algorithm 1, and the authors' code with its settings for
    CIFAR-100 and PreActResNet: 2, 4, 8 or 16 blocks along each side (drawn per batch), 3 levels,
    β = 1.2, γ = 0.5, η = 0.2, patches of 4 pixels in differences, blocks of 4 pixels to be moved
    (as large ones as the mask's where these are smaller), ξ = 0.8.

    Deviations: the mask is the optimum, found by a linear relaxation, where the authors swap
    pairs of labels in graph cuts. Differences of pixels are scaled to those of a batch with a
    deviation of 0.25, as the plan does not know the data set's. A place that no block is moved to
    keeps its own (black in the authors' code). At most 16 blocks are moved along each side, so
    that blocks are larger than `moved` in images of more than 64 pixels. The numbers of blocks are
    the nearest that divide the image. Left out: clean images in the same step, and adversarial
    noise.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        blocks: Blocks along each side that are drawn from, at least 2.
        levels: How many values the mask has.
        smoothness: β, the cost of neighbours that differ.
        pixels: γ, how much more that is where their pixels differ.
        prior: η, the weight of the prior.
        distance: ξ, the cost of moving a block along the whole image; 0 moves none.
        moved: The smallest side of a block that is moved, in pixels.
    """

    name: ClassVar[str] = "puzzlemix"
    summary: ClassVar[str] = "blocks of two images, chosen and moved so that what is salient shows"
    paper: ClassVar[Paper] = Paper(
        "Kim et al.",
        2020,
        "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup",
        "2009.06962",
    )
    card: ClassVar[Card] = Card(
        "When accuracy is worth a step of twice the length: the strongest mixing by saliency.",
        {
            "Kim et al. 2020, CIFAR-100": {},
            "without moving blocks": {"distance": 0},
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"images", "labels", "model"})
    asks: ClassVar[frozenset[str]] = frozenset({"input_gradients"})
    passes: ClassVar[float] = 3.0

    alpha: float = parameter(1.0, "λ ~ Beta(α, α), the mean of the mask's prior", above=0)
    blocks: tuple[int, ...] = parameter(
        (2, 4, 8, 16), "blocks along each side, drawn per batch", at_least=2
    )
    levels: int = parameter(3, "how many values the mask has", at_least=2, at_most=4)
    smoothness: float = parameter(1.2, "β, the cost of neighbours that differ", at_least=0)
    pixels: float = parameter(0.5, "γ, how much more where pixels differ", at_least=0)
    prior: float = parameter(0.2, "η, the weight of the prior", at_least=0)
    distance: float = parameter(
        0.8, "ξ, the cost of moving a block along the image; 0 moves none", at_least=0
    )
    moved: int = parameter(4, "smallest side of a block that is moved, in pixels", at_least=1)

    @property
    def home(self) -> Home:
        return Home(frozenset({"patches", "blobs"}), IMAGE)

    def check_combination(self) -> None:
        blocks = tuple(sorted(self.blocks))
        if len(set(blocks)) < len(blocks):
            raise ValueError(f"puzzlemix.blocks: got {list(blocks)}, expected each number once")
        object.__setattr__(self, "blocks", blocks)

    def check_size(self, height: int, width: int) -> None:
        if math.gcd(height, width) < 2:
            raise ValueError(
                f"puzzlemix.blocks: got images of {height} x {width}, expected sides that can be "
                "divided into the same number of blocks"
            )

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.transport import Transport

        height, width = draws.height, draws.width
        self.check_size(height, width)
        if draws.images is None or draws.labels is None or draws.model is None:
            raise ValueError("puzzlemix: expected draws with images, labels and a model, got none")
        wanted = self.blocks[draws.choose([1.0] * len(self.blocks))]
        blocks = _divisor(math.gcd(height, width), wanted)
        partner = draws.partners(self.pairing)
        share = draws.beta(self.alpha).float().expand(draws.batch)
        slopes = draws.model.input_gradients(draws.images, draws.labels)
        saliency = slopes.square().mean(dim=1).sqrt()
        images = draws.images.float()
        images = images * (SPREAD / images.std(correction=0).clamp(min=1e-6))
        mask = self._mask(images, _pooled(saliency, blocks), partner, share)
        finest = min(min(height, width) // self.moved, MOST_MOVED)
        places = blocks * _divisor(math.gcd(height, width) // blocks, max(finest // blocks, 1))
        own, other = self._places(mask, _pooled(saliency, places), partner)
        keep = mask.repeat_interleave(height // blocks, 1).repeat_interleave(width // blocks, 2)
        return Transport(keep.unsqueeze(1), partner, own, other)

    def _mask(self, images: Tensor, saliency: Tensor, partner: Tensor, share: Tensor) -> Tensor:
        """Return the sample's weight in each block: (B, n, n) float32."""
        from mixbench.augmentations.sampling.ordered_labels import least_cost_labels

        blocks = saliency.shape[1]
        smoothness = self.smoothness / blocks / 16
        # A label is the share of the partner: the sample's saliency is what it costs.
        own, other = saliency, saliency.index_select(0, partner)
        differences = _differences(images, images.index_select(0, partner), blocks)
        weights = []
        half = self.pixels * smoothness / 2
        own, other = own.clone(), other.clone()
        for axis, (partners, in_out, out_in, samples) in enumerate(differences, start=1):
            edge = half * (in_out + out_in - partners - samples)
            weights.append((smoothness + edge).clamp(min=0) / (self.levels - 1) ** 2)
            length = blocks - 1
            own.narrow(axis, 0, length).add_(half * (in_out + partners))
            own.narrow(axis, 1, length).add_(half * (out_in + partners))
            other.narrow(axis, 0, length).add_(half * (out_in + samples))
            other.narrow(axis, 1, length).add_(half * (in_out + samples))
        unary = self._unary(own, other, share)
        label = least_cost_labels(unary, weights[0], weights[1])
        return 1 - label.float() / (self.levels - 1)

    def _unary(self, own: Tensor, other: Tensor, share: Tensor) -> Tensor:
        """Return the cost of each label: the saliency that is hidden, and the prior."""
        import torch

        last = self.levels - 1
        costs = []
        for label in range(self.levels):
            ways = math.comb(last, label)
            chance = ways * share ** (last - label) * (1 - share) ** label
            prior = self.prior * -(chance + 1e-8).log() / own.shape[1] ** 2
            hidden = label / last
            costs.append((1 - hidden) * other + hidden * own + prior.view(-1, 1, 1))
        return torch.stack(costs, dim=1)

    def _places(self, mask: Tensor, saliency: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
        """Return which block each place shows, of the samples and of the partners."""
        import torch

        from mixbench.augmentations.sampling.block_transport import transport_blocks

        places = saliency.shape[1]
        if self.distance == 0:
            stays = torch.arange(places**2, device=mask.device).expand(mask.shape[0], -1)
            return stays, stays
        times = places // mask.shape[1]
        fine = mask.repeat_interleave(times, 1).repeat_interleave(times, 2)
        return (
            transport_blocks(fine, saliency, self.distance),
            transport_blocks(1 - fine, saliency.index_select(0, partner), self.distance),
        )


def _divisor(number: int, wanted: int) -> int:
    """Return the divisor nearest to `wanted`, at least 2 if that is; the larger of two."""
    divisors = [one for one in range(1, number + 1) if number % one == 0]
    if wanted > 1:
        divisors = divisors[1:] or divisors
    return min(divisors, key=lambda one: (abs(one - wanted), -one))


def _pooled(saliency: Tensor, blocks: int) -> Tensor:
    """Return the share of each block (B, n, n) of the sum of maps (B, H, W); even where it is 0."""
    import torch
    import torch.nn.functional as F

    sums = F.adaptive_avg_pool2d(saliency, blocks)
    total = sums.sum(dim=(1, 2), keepdim=True)
    return torch.where(total > 0, sums / total, 1 / blocks**2)


def _differences(
    own: Tensor, other: Tensor, blocks: int
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return mean absolute differences of pixels across the edges of blocks, down and across.

    Of the partner with itself, of the partner with the sample behind the edge, of the sample with
    the partner behind it, and of the sample with itself: each (B, n - 1, n), or (B, n, n - 1).
    """
    import torch.nn.functional as F

    found = []
    for axis in (2, 3):
        along = 5 - axis
        deep, wide = own.shape[axis] // blocks, own.shape[along] // blocks
        deep_patch, wide_patch = (_at_most(side, 4) for side in (deep, wide))
        size = (deep_patch, wide_patch) if axis == 2 else (wide_patch, deep_patch)
        maps = [F.avg_pool2d(images, size) for images in (other, own)]
        per_block = deep // deep_patch
        of_axis = []
        for before in maps:
            for behind in maps:
                length = before.shape[axis]
                edge = before.narrow(axis, 0, length - 1) - behind.narrow(axis, 1, length - 1)
                at = edge.abs().mean(dim=1)
                step = slice(per_block - 1, None, per_block)
                at = at[:, step] if axis == 2 else at[:, :, step]
                window = wide // wide_patch
                kernel = (1, window) if axis == 2 else (window, 1)
                of_axis.append(F.avg_pool2d(at, kernel))
        found.append((of_axis[0], of_axis[1], of_axis[2], of_axis[3]))
    return found


def _at_most(side: int, most: int) -> int:
    """Return the largest divisor of `side` that is at most `most`."""
    return max(one for one in range(1, most + 1) if side % one == 0)
