"""mixbench: benchmark and ablation suite for mixing augmentations.

    import mixbench

    mix = mixbench.create("cutmix", alpha=1.0)
    batch = mix(images, labels, num_classes=10)

The names below are those of `mixbench.augmentations`, and `load_results` of the analysis, imported
when they are first used. The rest of the suite is in `mixbench.experiments`, `mixbench.slurm` and
`mixbench.analysis`.
"""

from __future__ import annotations

import importlib

# Without importing typing: Ctrl-C in these first milliseconds of a command prints a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mixbench.analysis.tables.results import Results, load_results
    from mixbench.augmentations import (
        Bank,
        Batch,
        Blend,
        Card,
        Collate,
        DenseTargets,
        Draws,
        Forward,
        Home,
        Method,
        MixBatches,
        MixTransform,
        Moments,
        NetworkView,
        Operations,
        Overlay,
        PaddedImages,
        Paper,
        Paste,
        Plan,
        SoftTargets,
        Targets,
        Transport,
        Views,
        available,
        create,
        describe,
        layer_names,
        load_plan,
        mixing_inside,
        pad_images,
        parameter,
        plugins,
        resolve,
        save_plan,
        training_loss,
    )

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
    "Results",
    "SoftTargets",
    "Targets",
    "Transport",
    "Views",
    "available",
    "create",
    "describe",
    "layer_names",
    "load_plan",
    "load_results",
    "mixing_inside",
    "pad_images",
    "parameter",
    "plugins",
    "resolve",
    "save_plan",
    "training_loss",
]

_FOLDERS = ("analysis", "augmentations", "experiments", "slurm")
_ELSEWHERE = dict.fromkeys(("Results", "load_results"), "analysis.tables.results")


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _ELSEWHERE.get(name, "augmentations")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_FOLDERS, *__all__})
