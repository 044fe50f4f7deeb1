"""Check that a network can take images of a size; only a small one has weights and computes."""

from __future__ import annotations

from functools import cache

import torch

from mixbench.augmentations import Method, NetworkView
from mixbench.experiments.config.models import our_networks, own_place
from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import Size, build
from mixbench.experiments.models.timm_model import count_dropped_paths, no_paths
from mixbench.experiments.text import first_line

SMALL = 64
"""Up to so many pixels and channels, a network of ours computes at once."""


@cache
def check_size(
    config: ModelConfig, *, channels: int, classes: int, size: Size, is_dense: bool = False
) -> None:
    """Raise UserError unless the network can take two images of `channels` and `size`.

    size: the side of squares, or height and width in pixels; the model's own `input_size` counts.
    is_dense: as of `build`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    is_small = max(config.input_size or 0, config.width or 0, height, width) <= SMALL
    # On the meta device tensors have shapes alone: a large network takes a second or two. Before,
    # it imports torch's compiler, which takes two seconds more.
    device = "cpu" if is_small and config.name in our_networks() else "meta"
    try:
        with torch.device(device), torch.no_grad():
            network = build(
                config, channels=channels, classes=classes, size=size, seed=0, is_dense=is_dense
            )
            # To count them imports timm.
            dropped = None if config.drop_path is None else count_dropped_paths(network)
            logits = network(torch.zeros(2, channels, height, width))
            if own_place(config.name) is not None:
                _check_logits(config.name, logits, classes)
        if config.drop_path is not None and not dropped:
            raise no_paths(config.name, config.drop_path)
    except UserError:
        raise
    except NotImplementedError:
        # An operator without shapes alone; the run itself will tell.
        return
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        if "meta" in str(error):
            return
        pixels = config.input_size or size
        given = f"{pixels} x {pixels}" if isinstance(pixels, int) else f"{height} x {width}"
        where = "model.input_size" if config.input_size else "dataset.image_size"
        raise UserError(
            f"model.name: {config.name} can't take images of {given} pixels ({first_line(error)}); "
            f"give another {where}, or another network"
        ) from None


def _check_logits(name: str, logits: object, classes: int) -> None:
    """Raise UserError unless a network of the user's own gives a logit for each class."""
    shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if not isinstance(shape, list) or shape[:2] != [2, classes]:
        raise UserError(
            f"model.name: {name} gives {shape} for two images, expected logits of shape "
            f"{[2, classes]}, one for each class"
        )


def why_not_asked(
    config: ModelConfig, method: Method, *, channels: int, classes: int, size: Size
) -> str | None:
    """Return the reason why the network can't serve what `method` asks; None if it can.

    size: as of `check_size`. Unlike there the network is built, as some answers need values.
    """
    for what in sorted(method.asks):
        reason = _why_not(config, what, channels, classes, size)
        if reason is not None:
            return f"{method.name} asks the network for its {what.replace('_', ' ')}: {reason}"
    return None


@cache
def _why_not(config: ModelConfig, what: str, channels: int, classes: int, size: Size) -> str | None:
    height, width = (size, size) if isinstance(size, int) else size
    network = build(config, channels=channels, classes=classes, size=size, seed=0)
    return NetworkView(network).can(what, (channels, height, width))
