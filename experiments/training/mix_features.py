"""Mix the features of a network: maps, tokens or vectors."""

from __future__ import annotations

import math

from torch import Tensor, nn

from mixbench.augmentations.plans.base import Plan


def mix_features(plan: Plan, features: Tensor, network: nn.Module) -> Tensor:
    """A mixed copy of `features`, of the same shape; the plan's geometry is scaled to theirs.

    features: maps (B, C, h, w), or (B, h, w, C) in networks of timm that work so; the tokens of a
    vision transformer (B, N, C), of which those without a place (the class token) are averaged
    with the label weights; or vectors (B, C), averaged likewise. ValueError for others.
    """
    if not isinstance(features, Tensor):
        raise ValueError(f"expected a tensor to mix, got {type(features).__name__}")
    if features.dim() == 2:
        return plan.mix_features(features)
    if features.dim() == 3:
        return _mix_tokens(plan, features, network)
    if features.dim() == 4:
        # Networks of timm say so where they put the channels last.
        if getattr(network, "output_fmt", None) == "NHWC":
            maps = plan.mix_features(features.permute(0, 3, 1, 2))
            return maps.permute(0, 2, 3, 1).contiguous()
        return plan.mix_features(features)
    raise ValueError(f"expected features of 2 to 4 axes to mix, got {tuple(features.shape)}")


def _mix_tokens(plan: Plan, tokens: Tensor, network: nn.Module) -> Tensor:
    batch, count, channels = tokens.shape
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    height, width = _grid(network, count - prefix)
    out = tokens.new_empty(tokens.shape)
    if prefix:
        out[:, :prefix] = plan.mix_features(tokens[:, :prefix].flatten(1)).view(batch, prefix, -1)
    maps = tokens[:, prefix:].transpose(1, 2).reshape(batch, channels, height, width)
    out[:, prefix:] = plan.mix_features(maps).flatten(2).transpose(1, 2)
    return out


def _grid(network: nn.Module, count: int) -> tuple[int, int]:
    """Rows and columns of `count` tokens, which come row by row."""
    known = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if known is not None and known[0] * known[1] == count:
        return known[0], known[1]
    side = math.isqrt(count) if count > 0 else 0
    if side * side != count or not side:
        raise ValueError(f"expected the tokens of a square to mix, got {count}")
    return side, side
