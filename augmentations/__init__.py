"""Mixing augmentations behind one batch interface.

    import mixbench

    mix = mixbench.create("cutmix", alpha=1.0)
    batch = mix(images, labels, num_classes=10)
    loss = batch.targets.cross_entropy(model(batch.images))

Each name below is imported when it is first used, so importing this package imports neither torch
nor any method: listing the methods and checking their parameters must answer at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixbench.augmentations.bank import Bank
    from mixbench.augmentations.card import Card, Paper
    from mixbench.augmentations.dense_targets import DenseTargets
    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.integrations.dropin import (
        Collate,
        MixBatches,
        MixTransform,
        SoftTargets,
    )
    from mixbench.augmentations.integrations.hooks import mixing_inside
    from mixbench.augmentations.integrations.training_loss import training_loss
    from mixbench.augmentations.method import Home, Method, parameter
    from mixbench.augmentations.networks.layers import layer_names
    from mixbench.augmentations.networks.views import NetworkView
    from mixbench.augmentations.padding import PaddedImages, pad_images
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.plans.blend import Blend
    from mixbench.augmentations.plans.moments import Moments
    from mixbench.augmentations.plans.operations import Operations
    from mixbench.augmentations.plans.overlay import Overlay
    from mixbench.augmentations.plans.paste import Paste
    from mixbench.augmentations.plans.serialise import load_plan, save_plan
    from mixbench.augmentations.plans.transport import Transport
    from mixbench.augmentations.plans.views import Views
    from mixbench.augmentations.registry import available, create, describe, plugins, resolve
    from mixbench.augmentations.sampling.draws import Draws
    from mixbench.augmentations.targets import Targets

__all__ = [
    "Bank",
    "Batch",
    "Blend",
    "Card",
    "Collate",
    "DenseTargets",
    "Draws",
    "Forward",
    "Home",
    "Method",
    "MixBatches",
    "MixTransform",
    "Moments",
    "NetworkView",
    "Operations",
    "Overlay",
    "PaddedImages",
    "Paper",
    "Paste",
    "Plan",
    "SoftTargets",
    "Targets",
    "Transport",
    "Views",
    "available",
    "create",
    "describe",
    "layer_names",
    "load_plan",
    "mixing_inside",
    "pad_images",
    "parameter",
    "plugins",
    "resolve",
    "save_plan",
    "training_loss",
]

_MODULES = {
    "Bank": "bank",
    "Batch": "plans.base",
    "Blend": "plans.blend",
    "Card": "card",
    "Collate": "integrations.dropin",
    "DenseTargets": "dense_targets",
    "Draws": "sampling.draws",
    "Forward": "forward",
    "Home": "home",
    "Method": "method",
    "MixBatches": "integrations.dropin",
    "MixTransform": "integrations.dropin",
    "Moments": "plans.moments",
    "NetworkView": "networks.views",
    "Operations": "plans.operations",
    "Overlay": "plans.overlay",
    "PaddedImages": "padding",
    "Paper": "card",
    "Paste": "plans.paste",
    "Plan": "plans.base",
    "SoftTargets": "integrations.dropin",
    "Targets": "targets",
    "Transport": "plans.transport",
    "Views": "plans.views",
    "available": "registry",
    "create": "registry",
    "describe": "registry",
    "layer_names": "networks.layers",
    "load_plan": "plans.serialise",
    "mixing_inside": "integrations.hooks",
    "pad_images": "padding",
    "parameter": "method",
    "plugins": "registry",
    "resolve": "registry",
    "save_plan": "plans.serialise",
    "training_loss": "integrations.training_loss",
}
"""The module of this package that defines each public name."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
