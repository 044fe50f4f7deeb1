"""Makes a network from its configuration, with initial weights that depend on the seed alone."""

from __future__ import annotations

import torch
from torch import nn

from mixbench.experiments.config.models import MODELS
from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.models.resizing import Resizing
from mixbench.experiments.models.resnet20 import PreActResNet20
from mixbench.experiments.models.small_cnn import SmallCNN
from mixbench.experiments.models.timm_model import timm_model


def build(config: ModelConfig, *, channels: int, classes: int, size: int, seed: int) -> nn.Module:
    """The network for (B, channels, size, size) images and `classes` classes, on the CPU.

    The weights come from `seed` and are the same whatever the augmentation; the global random
    state is left as it was. With an `input_size` the network takes images of any size, and works on
    them resized to that.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(config, channels, classes, config.input_size or size)
    if config.input_size is not None:
        network.register_forward_pre_hook(Resizing(config.input_size))
    return network


def _network(config: ModelConfig, channels: int, classes: int, size: int) -> nn.Module:
    if config.name.startswith("timm/"):
        return timm_model(
            config.name.removeprefix("timm/"),
            channels=channels,
            classes=classes,
            size=size,
            small_stem=config.small_stem,
        )
    network = {"small_cnn": SmallCNN, "resnet20": PreActResNet20}[config.name]
    return network(channels, classes, config.width or MODELS[config.name].default_width)
