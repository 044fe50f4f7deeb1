"""Compose: several methods, one after another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations import nested
from mixbench.augmentations.method import Method

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class Compose(nested.Nested):
    """Each of `methods` mixes what the one before it made, with draws and partners of its own.

    A partner comes with what is mixed into it: two methods that mix pairs give four labels per
    sample. Label weights are the shares of the pixels, counted through all stages; a stage that
    blanks pixels (Cutout) leaves labels as they are, a rule of its own is kept. Methods that mix
    inside the network come after those that mix images, whatever their order here.

    The default, CutMix and then Cutout, is an example of ours and from no paper.
    """

    name: ClassVar[str] = "compose"
    summary: ClassVar[str] = "several methods, one after another"

    methods: tuple[Method, ...] = nested.methods(
        ("cutmix", "cutout"), "the methods, in the order in which they are applied"
    )

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.composite import chain

        plans: list[Plan] = []
        images = draws.images
        for number, method in enumerate(self.methods):
            plan = method.decide(replace(draws, images=images))
            plans.append(plan)
            if images is not None and any(
                later.needs_images for later in self.methods[number + 1 :]
            ):
                images = plan.expand(draws.batch).mix_images(images)
        return chain(plans)
