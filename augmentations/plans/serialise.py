"""Record and replay: a plan as plain tensors, in memory or in a safetensors file.

    save_plan(batch.plan, "plan.safetensors")
    masks = load_plan("plan.safetensors").mix_masks(masks)

A plan is a dataclass whose fields are tensors, numbers, words, or plans. Its tensors are recorded
under the names of their fields ("keep", "stages.0.target"), what is not a tensor as JSON in a uint8
tensor named "plan", with a digest of it all. Nothing that is loaded is executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from inspect import isabstract
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.plans.base import Plan

STRUCTURE = "plan"
VERSION = 1


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write `plan` to a safetensors file, whole or not at all.

    A row that all samples share is written once. Raises ValueError for a plan that holds something
    else than tensors, numbers, words and plans, OSError when the file can't be written.
    """
    from safetensors.torch import save

    path = Path(path)
    content = save(to_tensors(plan))
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_plan(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Plan:
    """The plan in a file that `save_plan` wrote, on `device`.

    Raises ValueError for a file that is damaged or holds something else, OSError when it can't be
    read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = Path(path).read_bytes()
    try:
        return from_tensors(load(content), device)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: expected a recorded plan, got {_one_line(error)}") from None


def to_tensors(plan: Plan) -> dict[str, Tensor]:
    """`plan` as named plain tensors, contiguous, on its device (the structure on the CPU)."""
    tensors: dict[str, Tensor] = {}
    parts = _taken_apart(plan, "", tensors)
    structure = {"version": VERSION, "digest": _digest(parts, tensors), "plan": parts}
    text = json.dumps(structure, allow_nan=False).encode()
    return {**tensors, STRUCTURE: torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def from_tensors(tensors: Mapping[str, Tensor], device: torch.device | str | None = None) -> Plan:
    """The plan that `to_tensors` took apart, on `device` (None: where the tensors are).

    Raises ValueError for tensors that are no plan, or a plan that could not be applied.
    """
    if STRUCTURE not in tensors:
        names = ", ".join(sorted(tensors)) or "nothing"
        raise ValueError(f"tensors without {STRUCTURE!r}, which says what they are: {names}")
    try:
        structure = json.loads(bytes(tensors[STRUCTURE].tolist()))
        version = structure["version"]
        if version != VERSION:
            raise ValueError(f"a plan of version {version!r}, where {VERSION} is known")
        # Checked where values can be read at once, then put together where it is wanted.
        here = {name: tensor.cpu() for name, tensor in tensors.items() if name != STRUCTURE}
        if structure["digest"] != _digest(structure["plan"], here):
            raise ValueError("it is not what was recorded")
        plan = _put_together(structure["plan"], here)
        if not isinstance(plan, Plan):
            raise ValueError(f"a structure that is no plan: {type(plan).__name__}")
        plan.check_fields()
        moved = {k: v if device is None else v.to(device) for k, v in tensors.items()}
        plan = _put_together(structure["plan"], moved)
    except ValueError as error:
        raise ValueError(f"a damaged plan: {_one_line(error)}") from None
    except (TypeError, KeyError, IndexError, AttributeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"a damaged plan: {type(error).__name__} {_one_line(error)}") from None
    return plan


def _taken_apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        shared = value.dim() > 0 and value.shape[0] > 1 and value.stride(0) == 0
        tensors[name] = (value[:1] if shared else value).detach().clone().contiguous()
        return {"tensor": name, "rows": value.shape[0] if shared else None}
    if isinstance(value, Plan) and is_dataclass(value):
        parts = {
            field.name: _taken_apart(getattr(value, field.name), _joined(name, field.name), tensors)
            for field in fields(value)
        }
        return {"kind": type(value).__name__, "fields": parts}
    if isinstance(value, (list, tuple)):
        items = [_taken_apart(item, _joined(name, at), tensors) for at, item in enumerate(value)]
        return {"items": items}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"{name}: expected tensors, numbers, words or plans, got {type(value).__name__}"
    )


def _put_together(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        tensor, rows = tensors[node["tensor"]], node["rows"]
        return tensor if rows is None else tensor.expand(rows, *tensor.shape[1:])
    if "items" in node:
        return tuple(_put_together(item, tensors) for item in node["items"])
    kinds = {kind.__name__: kind for kind in _kinds()}
    if node["kind"] not in kinds:
        raise ValueError(f"kind {node['kind']!r}, expected one of {', '.join(sorted(kinds))}")
    parts = {name: _put_together(part, tensors) for name, part in node["fields"].items()}
    return kinds[node["kind"]](**parts)


def _kinds(base: Any = Plan) -> Iterator[type[Plan]]:
    """All kinds of plan that are imported, also other people's."""
    from mixbench.augmentations.plans import composite  # noqa: F401  (so that its kinds are known)

    for kind in base.__subclasses__():
        if not isabstract(kind):
            yield kind
        yield from _kinds(kind)


def _digest(parts: Any, tensors: Mapping[str, Tensor]) -> str:
    """Of all names, values and tensors, so that no damage goes unnoticed."""
    digest = blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _joined(name: str, part: object) -> str:
    return f"{name}.{part}" if name else str(part)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
