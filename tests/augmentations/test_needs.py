"""What a method declares that it needs reaches its draw, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from mixbench import augmentations
from mixbench.augmentations.method import NEEDS
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.sampling.draws import Draws
from tests.support.oracles import seeded

IMAGES, LABELS = torch.rand(3, 1, 4, 4, generator=seeded(1)), torch.arange(3)
GIVEN: dict[str, Any] = {
    "images": IMAGES,
    "labels": LABELS,
    "masks": IMAGES[:, 0] > 0.5,
    "model": "the network",
    "bank": augmentations.Bank(IMAGES, LABELS),
    "normalisation": (0, 1),
}


@dataclass(frozen=True, kw_only=True)
class Watching(augmentations.Method):
    """Remembers what it was given."""

    name: ClassVar[str] = "watching"
    summary: ClassVar[str] = "for this test"
    seen: ClassVar[list[Draws]] = []

    def draw(self, draws: Draws) -> Plan:
        self.seen.append(draws)
        return Blend(torch.full((1, 1, 1, 1), 0.25), draws.partners("roll"))


def watching(*names: str) -> augmentations.Method:
    class Needy(Watching):
        needs: ClassVar[frozenset[str]] = frozenset(names)

    Watching.seen.clear()
    return Needy()


@pytest.mark.parametrize("need", NEEDS)
def test_a_method_gets_what_it_declares_and_is_refused_without(need: str) -> None:
    mix = watching(need)
    mix.sample(IMAGES.shape, **GIVEN)
    (draws,) = Watching.seen
    assert [name for name in NEEDS if getattr(draws, name) is not None] == [need]
    assert getattr(draws, need) is GIVEN[need]
    others = {name: value for name, value in GIVEN.items() if name != need}
    with pytest.raises(ValueError, match=f"watching: expected {need}=, .* got None"):
        mix.sample(IMAGES.shape, **others)
    if need not in ("images", "labels"):
        with pytest.raises(ValueError, match=f"watching needs {need}"):
            augmentations.SoftTargets(mix, 3)


def test_the_older_declaration_and_the_needs_agree() -> None:
    class Old(Watching):
        needs_images: ClassVar[bool] = True

    class Younger(Old):
        needs: ClassVar[frozenset[str]] = frozenset({"labels"}) | Old.needs

    assert Old.needs == {"images"}
    assert Younger.needs == {"images", "labels"} and Younger.needs_images
    assert not watching("labels").needs_images
    mix = augmentations.create("saliencymix")
    assert mix.needs_images and mix.needs == {"images"}


def test_methods_of_methods_need_what_their_members_need() -> None:
    rolled = {"name": "mixup", "pairing": "roll"}
    members = [watching("labels"), rolled, watching("masks"), watching("images", "masks")]
    mix = augmentations.create("compose", methods=members)
    assert mix.needs == {"labels", "images", "masks"}
    mix.sample(IMAGES.shape, generator=torch.Generator().manual_seed(0), **GIVEN)
    first, second, third = Watching.seen
    assert first.labels is LABELS
    # Those that come later look at what came before: rolled once or twice, of three samples.
    assert second.masks is not None and not torch.equal(second.masks, GIVEN["masks"])
    assert third.images is not None and not torch.equal(third.images, IMAGES)


def test_labels_and_masks_of_another_batch_are_refused() -> None:
    for need, wrong in (("labels", LABELS[:2]), ("masks", GIVEN["masks"][:2])):
        with pytest.raises(ValueError, match=f"expected {need} of a batch of 3, got"):
            watching(need).sample(IMAGES.shape, **{**GIVEN, need: wrong})
