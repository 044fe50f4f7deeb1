"""The attention of the class token in the last block of timm's ViTs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network that was compiled, or wrapped in DistributedDataParallel."""
    inner: nn.Module = getattr(network, "_orig_mod", network)
    if isinstance(inner, nn.parallel.DistributedDataParallel):
        inner = inner.module
    return getattr(inner, "_orig_mod", inner)


def why_no_attention(network: nn.Module) -> str | None:
    """Return the reason why a network has no attention of a class token; None if it has.

    Args:
        network: A ViT or DeiT of timm, or another network.
    """
    kind = type(network).__name__
    blocks: Any = getattr(network, "blocks", None)
    attention = getattr(blocks[-1], "attn", None) if _is_filled(blocks) else None
    needed = ("qkv", "q_norm", "k_norm", "num_heads", "scale")
    if attention is None or not all(hasattr(attention, name) for name in needed):
        return f"{kind} has no attention blocks as those of a ViT of timm"
    if getattr(network, "cls_token", None) is None:
        return f"{kind} has no class token"
    if getattr(getattr(network, "patch_embed", None), "grid_size", None) is None:
        return f"{kind} does not say how many patches it sees"
    return None


def _is_filled(blocks: Any) -> bool:
    return isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks) > 0


@contextmanager
def seen_attention(network: nn.Module) -> Iterator[list[Tensor]]:
    """Keep the class token's attention of every forward pass within this block.

    It has no gradient: it is computed once more, from what the last block's attention is given.

    Args:
        network: One for which `why_no_attention` is None.

    Yields:
        A list that gets, for each forward pass, the attention to each patch, mean over heads:
        (B, h, w) float32, from 0 to 1.
    """
    seen: list[Tensor] = []
    net: Any = network

    def look(attention: Any, arguments: tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            tokens = arguments[0]
            batch, count, _ = tokens.shape
            # In the order of timm: queries, keys, values.
            qkv = attention.qkv(tokens).reshape(batch, count, 3, attention.num_heads, -1)
            queries, keys, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            query = attention.q_norm(queries[:, :, :1]).float() * attention.scale
            # Not a matrix product: autocast would take it to half precision.
            scores = (query * attention.k_norm(keys).float()).sum(dim=-1)
            weights = scores.softmax(dim=-1).mean(dim=1)
            rows, columns = net.patch_embed.grid_size
            seen.append(weights[:, count - rows * columns :].reshape(batch, rows, columns))

    hook = net.blocks[-1].attn.register_forward_pre_hook(look)
    try:
        yield seen
    finally:
        hook.remove()
