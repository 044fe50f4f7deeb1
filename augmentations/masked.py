"""What methods share that paste by masks: ClassMix, Copy-Paste."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.method import IMAGE, Home, Method
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.label_weights import declare_label_rule

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


class MaskedMethod(Method):
    """A method that pastes the pixels of some of the values that the partner's mask has.

    Attributes:
        labels: The label rule.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"masks"})
    labels: str

    @property
    def home(self) -> Home:
        return Home(frozenset({"blobs"}), IMAGE)

    def check_combination(self) -> None:
        declare_label_rule(self, self.labels)

    @abstractmethod
    def choose(self, values: Tensor, order: Tensor) -> Tensor:
        """Choose the values whose pixels are pasted.

        Args:
            values: Which values the mask of each partner has, (N, 256) bool.
            order: Random numbers from 0 to 1, (N, 256) float64.

        Returns:
            (N, 256), of any dtype.
        """

    def paste(self, draws: Draws, masks: Tensor) -> Plan:
        """Draw partners, and paste what is chosen of their masks (B, H, W) int64."""
        from mixbench.augmentations.plans.overlay import Overlay
        from mixbench.augmentations.sampling.mask_values import (
            VALUES,
            pixels_of_values,
            values_in,
        )

        partner = draws.partners(self.pairing)
        shown = masks.index_select(0, partner[: draws.rows])
        chosen = self.choose(values_in(shown), draws.uniform(tries=VALUES))
        return weighed(Overlay(1 - pixels_of_values(shown, chosen), partner), self.labels, draws)
