"""Any network of timm, by its name, with a stem for small images on request."""

from __future__ import annotations

from typing import Any

from torch import nn

from mixbench.experiments.errors import UserError


def timm_model(
    name: str, *, channels: int, classes: int, size: int | tuple[int, int], small_stem: bool
) -> nn.Module:
    """timm's network `name`, untrained, for images of `channels` and `size`.

    size: the side of squares, or height and width.

    small_stem: the first convolution keeps the resolution (3 x 3, stride 1) and the pooling behind
    it is left out, as is usual for CIFAR; for networks whose stem is a single convolution. Vision
    transformers are built for the image size. UserError where the network has no such stem.
    """
    import timm

    options: dict[str, Any] = {"in_chans": channels, "num_classes": classes}
    known = timm.get_pretrained_cfg(name)
    if known is not None and known.fixed_input_size:
        options["img_size"] = size
    try:
        network = timm.create_model(name, pretrained=False, **options)
    except (AssertionError, ValueError, RuntimeError) as error:
        height, width = (size, size) if isinstance(size, int) else size
        raise UserError(
            f"model.name: timm/{name} can't take {height} x {width} images: {error}"
        ) from None
    if small_stem:
        _shrink_stem(network, name)
    return network


def _shrink_stem(network: nn.Module, name: str) -> None:
    for path in ("conv1", "conv_stem", "stem.conv"):
        parent, leaf = _parent(network, path)
        old = getattr(parent, leaf, None)
        if isinstance(old, nn.Conv2d):
            break
    else:
        raise UserError(f"model.small_stem: timm/{name} has no single stem convolution to shrink")
    new = nn.Conv2d(
        old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=old.bias is not None
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    setattr(parent, leaf, new)
    for path in ("maxpool", "stem.pool"):
        parent, leaf = _parent(network, path)
        if getattr(parent, leaf, None) is not None:
            setattr(parent, leaf, nn.Identity())


def _parent(network: nn.Module, path: str) -> tuple[Any, str]:
    """The module that holds the module at `path`, and the last part of its name."""
    *parents, leaf = path.split(".")
    holder: Any = network
    for part in parents:
        holder = getattr(holder, part, None)
    return holder, leaf
