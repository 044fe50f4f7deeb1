"""C-Mixup: MixUp with partners whose labels are near, for regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, PAIRINGS, Home, Method, Paper, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class CMixUp(Method):
    """Average each sample with one whose label is near; labels likewise.

    out = λ x + (1 - λ) x[partner], λ ~ Beta(α, α), and the same λ for the labels. Sample i gets
    partner j with a probability proportional to exp(-|y_i - y_j|² / 2σ²), itself included.

    For regression: labels (B, K) floating point, values scaled to [0, 1] over the data, and
    `targets.dense(K)` is what the network is to predict. Classes count as one-hot labels: those
    that differ are √2 apart, so that with the default partners are of the same class.

    Source: Yao et al. 2022, section 3.2, equations 4 and 6, with α = 2.

    Deviations: partners come from the batch (the paper's variant C-Mixup-batch), not from the whole
    training set. The paper chooses σ for each data set.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        bandwidth: σ, in the unit of the labels, above 0.
        pairing: "near", or as in every other method, and then it is MixUp.

    Examples:
        >>> import mixbench, torch
        >>> mix = mixbench.create("c_mixup", bandwidth=0.1)
        >>> images, angles = torch.rand(4, 1, 8, 8), torch.tensor([[0.1], [0.9], [0.11], [0.89]])
        >>> batch = mix(images, angles, generator=torch.Generator().manual_seed(0))
        >>> (batch.targets.dense(1) - angles).abs().max() < 0.02
        tensor(True)
    """

    name: ClassVar[str] = "c_mixup"
    summary: ClassVar[str] = "mixup with partners whose labels are near, for regression"
    paper: ClassVar[Paper] = Paper(
        "Yao et al.", 2022, "C-Mixup: Improving Generalization in Regression", "2210.05775"
    )
    card: ClassVar[Card] = Card(
        "Regression: samples are mixed with others whose values are near. For classes, use MixUp.",
        {"Yao et al. 2022": {}},
    )

    alpha: float = parameter(2.0, "λ ~ Beta(α, α); small values mix little", above=0)
    bandwidth: float = parameter(0.1, "how near labels are: σ of the Gaussian kernel", above=0)
    pairing: str = parameter(
        "near",
        "who is mixed with whom: by the distance of their labels, or as in the other methods",
        choices=("near", *PAIRINGS),
    )

    def check_combination(self) -> None:
        if self.pairing == "near":
            self.also_needs("labels")

    @property
    def home(self) -> Home:
        return Home(fills=IMAGE)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.blend import Blend

        keep = draws.blend_weights(self.alpha)
        if self.pairing != "near":
            return Blend(keep, draws.partners(self.pairing))
        if draws.labels is None:
            raise ValueError("c_mixup: expected draws with labels, got none")
        log_weights = squared_distances(draws.labels) / (-2 * self.bandwidth**2)
        return Blend(keep, draws.columns(log_weights))


def squared_distances(labels: Tensor) -> Tensor:
    """Return the squared distances of all pairs of labels: (B, B) float32.

    Args:
        labels: (B, K) floating point, or (B,) classes, of which different ones are √2 apart.
    """
    import torch

    if labels.dim() == 1:
        return 2.0 * (labels[:, None] != labels[None, :]).float()
    values = labels.float()
    # Differences, not products: near labels are what counts.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(values, values, compute_mode=mode).square()
