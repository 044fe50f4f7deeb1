"""Compose: several methods, one after another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mixbench.augmentations import nested
from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class Compose(nested.Nested):
    """Apply several methods one after another, each with its own draws and partners.

    out = method_n(... method_2(method_1(x))).

    Source: none; the default, CutMix and then Cutout, is only an example.

    A partner is the mixed sample that the method before it returned, and a method that looks at
    images or masks sees the mixed ones (labels: the samples' own). Two methods that mix pairs
    give four labels per sample. Label weights are the shares of the pixels, followed through all
    methods. A method that blanks pixels (Cutout) leaves labels unchanged, and one that declares its
    own rule for label weights keeps it. Methods that mix inside the network come after those that
    mix images, whatever their order in `methods`.

    One of the methods may have a loss of its own: its mixed view is then what all have mixed. Where
    its views have one label (AugMix), the others must keep labels too.

    Args:
        methods: Names, mappings with a `name`, or methods, in the order in which they are applied.
    """

    name: ClassVar[str] = "compose"
    summary: ClassVar[str] = "several methods, one after another"
    card: ClassVar[Card] = Card(
        "Methods that don't replace each other, such as mixing and erasing.",
        {"an example": {"methods": ["cutmix", "random_erasing"]}},
    )

    methods: tuple[Method, ...] = nested.methods(
        ("cutmix", "cutout"), "the methods, in the order in which they are applied"
    )

    def check_combination(self) -> None:
        super().check_combination()
        with_loss = [method for method in self.methods if method.has_loss]
        if len(with_loss) > 1 or any("bank" in method.needs for method in self.methods):
            nested.refuse_hooks(self, "methods: expected at most one with a loss of its own")
        for method in with_loss:
            if isinstance(method, nested.Nested):
                nested.refuse_hooks(self, "methods: expected those with a loss outside of others")
            mixing = [other.name for other in self.methods if other.label_rule != "kept"]
            if method.label_rule == "kept" and mixing:
                raise ValueError(
                    f"{self.name}.methods: expected methods that keep labels beside {method.name}, "
                    f"which compares views of one label, got {mixing[0]}"
                )

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:
        """Return the loss of the method that has one of its own, of what all have mixed."""
        for method in self.methods:
            if method.has_loss:
                return method.loss(forward, clean, mixed)
        return super().loss(forward, clean, mixed)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.composite import chain

        plans: list[Plan] = []
        for number, method in enumerate(self.methods):
            plan = method.decide(draws)
            plans.append(plan)
            later = {need for method in self.methods[number + 1 :] for need in method.needs}
            mixed: dict[str, Any] = {}
            if draws.images is not None and "images" in later:
                mixed["images"] = plan.expand(draws.batch).mix_images(draws.images)
            if draws.masks is not None and "masks" in later:
                mixed["masks"] = plan.expand(draws.batch).mix_masks(draws.masks)
            draws = replace(draws, **mixed) if mixed else draws
        return chain(plans)
