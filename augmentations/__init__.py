"""Mixing augmentations behind one batch interface.

    import augmentations

    mix = augmentations.create("cutmix", alpha=1.0)
    batch = mix(images, labels, num_classes=10)
    loss = batch.targets.cross_entropy(model(batch.images))

Importing this package does not import torch: listing the methods and checking their parameters
must answer at once. The names below that need torch are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from augmentations.method import Method, Paper, parameter
from augmentations.registry import available, create, describe, plugins, resolve

if TYPE_CHECKING:
    from augmentations.blend import Blend
    from augmentations.draws import Draws
    from augmentations.manifold import mixing_inside
    from augmentations.paste import Paste
    from augmentations.plan import Batch, Plan
    from augmentations.record import load_plan, save_plan
    from augmentations.targets import Targets

__all__ = [
    "Batch",
    "Blend",
    "Draws",
    "Method",
    "Paper",
    "Paste",
    "Plan",
    "Targets",
    "available",
    "create",
    "describe",
    "load_plan",
    "mixing_inside",
    "parameter",
    "plugins",
    "resolve",
    "save_plan",
]

_NEEDS_TORCH = {
    "Batch": "augmentations.plan",
    "Blend": "augmentations.blend",
    "Draws": "augmentations.draws",
    "Paste": "augmentations.paste",
    "Plan": "augmentations.plan",
    "Targets": "augmentations.targets",
    "mixing_inside": "augmentations.manifold",
    "load_plan": "augmentations.record",
    "save_plan": "augmentations.record",
}


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        import importlib

        return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)
    raise AttributeError(f"module 'augmentations' has no attribute {name!r}")
