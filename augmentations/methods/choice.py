"""Choice: one of several methods, drawn per batch or per sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations import nested
from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Method, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.bank import Bank
    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class Choice(nested.Nested):
    """Apply one of several methods, drawn per batch or per sample.

    P(method k) = weights[k] / sum(weights).

    Source: timm's switch between MixUp and CutMix (`timm.data.Mixup`, `switch_prob` 0.5), with the
    strengths of DeiT (Touvron et al. 2021, arXiv:2012.12877, table 9): MixUp α = 0.8, CutMix α = 1.
    timm's modes "batch" and "elem" are `per_sample` false and true; its mode "pair" is not
    supported.

    Deviations: any methods and any weights; each method draws its own partners (timm pairs the
    batch with its reverse: `pairing="flip"`). A partner is the sample as it was in the batch,
    whatever is drawn for the partner itself. A method that mixes inside the network can be one of
    `methods`; with `per_sample` it mixes features of images that other methods may have mixed.

    Per batch, the host draws which code runs (no wait for the device, but a break in a compiled
    graph). Per sample, the draw stays on the device and all methods are computed.

    A method with a loss of its own has it in the batches for which it is drawn; per sample there
    can be none.

    Args:
        methods: Names, mappings with a `name`, or methods; at least one.
        weights: How often each method is drawn, in proportion; empty: all alike.
        per_sample: Whether the method, and what it draws, is drawn per sample.
    """

    name: ClassVar[str] = "choice"
    summary: ClassVar[str] = "one of several methods, drawn per batch or per sample"
    card: ClassVar[Card] = Card(
        "Two methods instead of one, as recipes for ImageNet have it: MixUp or CutMix, drawn "
        "per batch.",
        {
            "timm's switch": {},
            "timm's usual alphas": {"methods": [{"name": "mixup", "alpha": 0.8}, "cutmix"]},
        },
    )

    methods: tuple[Method, ...] = nested.methods(
        ({"name": "mixup", "alpha": 0.8}, {"name": "cutmix", "alpha": 1.0}),
        "the methods that are drawn from",
    )
    weights: tuple[float, ...] = parameter(
        (), "how often each is drawn, in proportion; empty: all alike", at_least=0
    )
    per_sample: bool = parameter(False, "draw the method, and what it draws, per sample")

    def check_combination(self) -> None:
        super().check_combination()
        fits = len(self.weights) == len(self.methods) and 0 < sum(self.weights) < float("inf")
        if self.weights and not fits:
            raise ValueError(
                f"{self.name}.weights: got {list(self.weights)}, expected {len(self.methods)} "
                "numbers, one for each method, of which one at least is above 0"
            )
        if len(set(self.weights)) == 1:
            # Equal weights are one configuration, however they are written.
            object.__setattr__(self, "weights", ())
        if self.per_sample:
            nested.refuse_hooks(self, "per_sample: expected false")

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.composite import select

        weights = self.weights or (1.0,) * len(self.methods)
        if not self.per_sample:
            method = self.methods[draws.choose(weights)]
            if draws.drawn is not None:
                draws.drawn.append(method)
            return method.decide(draws)
        plans = [method.decide(draws).expand(draws.batch) for method in self.methods]
        return select(_choices(replace(draws, rows=draws.batch), weights), plans)

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:
        """Return the loss of the method that was drawn for the batch."""
        if not self.has_loss:
            return super().loss(forward, clean, mixed)
        return self._drawn(mixed).loss(forward, clean, mixed)

    def remember(self, bank: Bank, clean: Batch, mixed: Batch, logits: Tensor | None) -> None:
        if "bank" in self.needs:
            self._drawn(mixed).remember(bank, clean, mixed, logits)

    def _drawn(self, mixed: Batch) -> Method:
        found = (method for method in mixed.drawn if method in self.methods)
        drawn: Method | None = next(found, None)
        if drawn is None:
            raise ValueError(
                f"{self.name}: expected a batch that it has mixed, with `drawn`, for a method with "
                "a loss of its own"
            )
        return drawn


def _choices(draws: Draws, weights: tuple[float, ...]) -> Tensor:
    """Draw which method each sample follows: (B,) int64."""
    unit = draws.uniform() * sum(weights)
    choice = draws.whole(0)
    for edge in tuple(accumulate(weights))[:-1]:
        choice = choice + (unit >= edge)
    return choice
