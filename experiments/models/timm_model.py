"""Any network of timm, by its name, with a stem for small images on request."""

from __future__ import annotations

from typing import Any

from torch import nn

from mixbench.experiments.config.models import WITH_PATHS
from mixbench.experiments.errors import UserError


def timm_model(
    name: str,
    *,
    channels: int,
    classes: int,
    size: int | tuple[int, int],
    small_stem: bool,
    drop_path: float | None = None,
) -> nn.Module:
    """timm's network `name`, untrained, for images of `channels` and `size`.

    size: the side of squares, or height and width.

    small_stem: the first convolution keeps the resolution (3 x 3, stride 1) and the pooling behind
    it is left out, as is usual for CIFAR; for networks whose stem is a single convolution. Vision
    transformers are built for the image size. UserError where the network has no such stem.
    drop_path: the rate of stochastic depth (Huang et al. 2016) of the deepest block, up to which
    it rises, as timm has it. UserError for a network that does not take it; `dry_forward` finds
    those that take it and drop no paths.
    """
    import timm

    options: dict[str, Any] = {"in_chans": channels, "num_classes": classes}
    known = timm.get_pretrained_cfg(name)
    if known is not None and known.fixed_input_size:
        options["img_size"] = size
    if drop_path is not None:
        options["drop_path_rate"] = drop_path
    try:
        network = timm.create_model(name, pretrained=False, **options)
    except TypeError as error:
        if drop_path is None or "drop_path_rate" not in str(error):
            raise
        raise no_paths(f"timm/{name}", drop_path) from None
    except (AssertionError, ValueError, RuntimeError) as error:
        height, width = (size, size) if isinstance(size, int) else size
        raise UserError(
            f"model.name: timm/{name} can't take {height} x {width} images: {error}"
        ) from None
    if small_stem:
        shrink_stem(network, name)
    return network


def count_dropped_paths(network: nn.Module) -> list[nn.Module]:
    """Return a list to which every path that may be dropped is added when it is computed.

    Some networks take the rate and ignore it, or have such paths and never use them.
    """
    from timm.layers import DropPath  # type: ignore[attr-defined]

    computed: list[nn.Module] = []

    def note(path: nn.Module, *_: Any) -> None:
        computed.append(path)

    for part in network.modules():
        if isinstance(part, DropPath) and part.drop_prob:
            part.register_forward_hook(note)
    return computed


def no_paths(name: str, drop_path: float) -> UserError:
    """Return the error of a network without paths to drop."""
    return UserError(
        f"model.drop_path: got {drop_path}, but {name} drops no paths; {WITH_PATHS} do"
    )


def shrink_stem(network: nn.Module, name: str) -> None:
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
