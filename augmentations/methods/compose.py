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
    """Apply several methods one after another, each with its own draws and partners.

    out = method_n(... method_2(method_1(x))).

    Source: none; the default, CutMix and then Cutout, is only an example.

    A partner is the mixed sample that the method before it returned, so two methods that mix pairs
    give four labels per sample. Label weights are the shares of the pixels, followed through all
    methods. A method that blanks pixels (Cutout) leaves labels unchanged, and one that declares its
    own rule for label weights keeps it. Methods that mix inside the network come after those that
    mix images, whatever their order in `methods`.

    Args:
        methods: Names, mappings with a `name`, or methods, in the order in which they are applied.
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
