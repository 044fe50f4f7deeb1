"""Whether a frozen part of the network sees the same images in every epoch. Without torch.

And what can be mixed behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixbench.experiments.config import staging

if TYPE_CHECKING:
    from mixbench.experiments.config.schema import RunConfig


def why_not_cached(config: RunConfig) -> str | None:
    """What the configuration has that keeps features from being made once; None if nothing."""
    transfer, training = config.transfer, config.training
    if transfer is None or transfer.freeze in (None, "none"):
        return "nothing is frozen (transfer.freeze)"
    if transfer.unfreeze:
        return "the frozen part does not stay frozen (transfer.unfreeze)"
    if training.crop_padding:
        return f"crops vary (training.crop_padding: {training.crop_padding}, not 0)"
    if training.flip:
        return "images are flipped (training.flip: true, not false)"
    if transfer.mixing != "features" and mixes(config):
        return "images are mixed (transfer.mixing: pixels, not features)"
    return None


def mixes(config: RunConfig) -> bool:
    """Is anything mixed at any time?"""
    methods = staging.methods(config.augmentation, config.staging)
    return any(mix.name != "none" for _, mix in methods)


def why_not_in_features(config: RunConfig) -> str | None:
    """What the configuration has that can't be mixed in features; None if nothing."""
    for where, mix in staging.methods(config.augmentation, config.staging):
        if mix.deepest:
            return f"{mix.name} mixes inside the network by itself ({where})"
    return None
