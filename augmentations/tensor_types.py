"""Mix tensors of other types, such as torchvision's tv_tensors, and return the type that came."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def plain(value: T) -> T:
    """Return a tensor of a subclass as a plain tensor that shares its memory.

    Args:
        value: Any value; what is no tensor, and a subclass with operations of its own (such as
            `DTensor`), is returned unchanged.

    Examples:
        >>> import torch
        >>> type(plain(torch.nn.Parameter(torch.zeros(2)))).__name__
        'Tensor'
    """
    if type(value) is Tensor or not isinstance(value, Tensor) or _has_operations(value):
        return value
    return value.as_subclass(Tensor)  # type: ignore[return-value]


def retyped(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a plain tensor as the type of another, with its metadata.

    Args:
        tensor: A plain tensor.
        like: The tensor whose type is wanted: a tv_tensor gives its format and canvas size too; a
            parameter gives a plain tensor.
    """
    kind = type(like)
    if kind in (Tensor, torch.nn.Parameter) or _has_operations(like):
        return tensor
    # Whoever has a tv_tensor has imported torchvision.
    tv_tensors: Any = sys.modules.get("torchvision.tv_tensors")
    if tv_tensors is not None and isinstance(like, tv_tensors.TVTensor):
        wrapped: Tensor = tv_tensors.wrap(tensor, like=like)
        return wrapped
    return tensor.as_subclass(kind)


def keeps_type(mix: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Decorate a method that mixes a tensor, so that a subclass of tensor comes back as itself."""

    @functools.wraps(mix)
    def typed(self: Any, tensor: Tensor) -> Tensor:
        if type(tensor) is Tensor or not isinstance(tensor, Tensor):
            return mix(self, tensor)
        return retyped(mix(self, plain(tensor)), tensor)

    return typed


def _has_operations(tensor: Tensor) -> bool:
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
