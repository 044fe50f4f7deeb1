"""Makes a network from its configuration, with initial weights that depend on the seed alone."""

from __future__ import annotations

import importlib
from typing import cast

import torch
from torch import nn

from mixbench.experiments.config import models
from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.models.own_network import own_network
from mixbench.experiments.models.resizing import Resizing
from mixbench.experiments.models.timm_model import timm_model
from mixbench.experiments.models.timm_segmenter import timm_segmenter

Size = int | tuple[int, int]


def build(
    config: ModelConfig,
    *,
    channels: int,
    classes: int,
    size: Size,
    seed: int,
    is_dense: bool = False,
) -> nn.Module:
    """The network for images of `channels` and `size` and `classes` classes, on the CPU.

    size: the side of squares, or height and width in pixels. is_dense: timm's networks get a
    decoder that gives logits of every pixel; ours do it or don't.

    The weights come from `seed` and are the same whatever the augmentation; the global random
    state is restored. With an `input_size` the network takes images of any size and resizes them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_dense and config.name.startswith("timm/"):
            network = _timm_segmenter(config, channels, classes)
        else:
            network = _network(config, channels, classes, config.input_size or size)
    if config.input_size is not None:
        network.register_forward_pre_hook(Resizing(config.input_size))
    return network


def _timm_segmenter(config: ModelConfig, channels: int, classes: int) -> nn.Module:
    return timm_segmenter(
        config.name.removeprefix("timm/"),
        channels=channels,
        classes=classes,
        small_stem=config.small_stem,
        drop_path=config.drop_path,
    )


def _network(config: ModelConfig, channels: int, classes: int, size: Size) -> nn.Module:
    if config.name.startswith("timm/"):
        return timm_model(
            config.name.removeprefix("timm/"),
            channels=channels,
            classes=classes,
            size=size,
            small_stem=config.small_stem,
            drop_path=config.drop_path,
        )
    place = models.own_place(config.name)
    if place is not None:
        return own_network(place, channels=channels, classes=classes, size=size, width=config.width)
    network = importlib.import_module(f"{models.NETWORKS}.{config.name}").NETWORK
    width = config.width or models.our_networks()[config.name].default_width
    return cast(nn.Module, network(channels, classes, width))
