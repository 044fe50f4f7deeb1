"""A blend by a mask of 0 and 1 that covers objects: ClassMix, Copy-Paste."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mixbench.augmentations.checks import check_weights
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.fragments import Fragments
from mixbench.augmentations.plans.patches import blend_patches


@dataclass(frozen=True)
class Overlay(Blend):
    """Pixels of a partner laid over each sample: a `Blend` whose mask `keep` is 0 or 1.

    A box is as visible as the mask leaves it and weighs 1, where in a `Blend` it weighs what the
    mask leaves.

    Examples:
        >>> import mixbench, torch
        >>> keep = torch.ones(2, 1, 4, 4)
        >>> keep[:, :, 1:3, 1:3] = 0
        >>> plan = mixbench.Overlay(keep, partner=torch.tensor([1, 0]))
        >>> boxes = [torch.tensor([[1.0, 1.0, 3.0, 3.0]]), torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
        >>> targets = [{"boxes": box, "labels": torch.tensor([n])} for n, box in enumerate(boxes)]
        >>> for target in plan.mix_boxes(targets):
        ...     print(target["labels"].tolist(), target["weights"].tolist())
        [1] [1.0]
        [1, 0] [1.0, 1.0]
    """

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        check_weights("keep", self.keep)
        patches = blend_patches(self.keep, self.partner)
        return fragments.through(replace(patches, mask_weighs=False))
