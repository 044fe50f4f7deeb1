"""Save and load plans: as plain tensors, in memory or in a safetensors file.

    save_plan(batch.plan, "plan.safetensors")
    masks = load_plan("plan.safetensors").mix_masks(masks)

A plan is a dataclass whose fields are tensors, numbers, words, or plans. Its tensors are stored
under the names of their fields ("keep", "stages.0.target"), everything else as JSON in a uint8
tensor named "plan", with a digest of everything. Loading executes no code from the file.
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
"""The name of the tensor that holds everything that is not a tensor."""
VERSION = 1


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a plan to a safetensors file, completely or not at all.

    Args:
        plan: Any plan; a row that all samples share is written once.
        path: The file; one that exists is replaced.

    Raises:
        ValueError: The plan holds something else than tensors, numbers, words and plans.
        OSError: The file can't be written.

    Examples:
        >>> import mixbench, pathlib, tempfile, torch
        >>> plan = mixbench.create("cutmix").sample((4, 3, 32, 32))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "plan.safetensors"
        ...     mixbench.save_plan(plan, path)
        ...     loaded = mixbench.load_plan(path)
        >>> torch.equal(loaded.target, plan.target)
        True
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
    """Read a plan from a file that `save_plan` wrote.

    Args:
        path: The file.
        device: Where the plan's tensors will be.

    Returns:
        A plan that mixes exactly as the saved one.

    Raises:
        ValueError: The file is damaged or holds something else.
        OSError: The file can't be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = Path(path).read_bytes()
    try:
        return from_tensors(load(content), device)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: expected a recorded plan, got {_one_line(error)}") from None


def to_tensors(plan: Plan) -> dict[str, Tensor]:
    """Convert a plan to plain tensors.

    Args:
        plan: Any plan.

    Returns:
        Contiguous tensors by name, on the plan's device; "plan", which describes the rest, on the
        CPU.

    Raises:
        ValueError: The plan holds something else than tensors, numbers, words and plans.
    """
    tensors: dict[str, Tensor] = {}
    parts = _take_apart(plan, "", tensors)
    structure = {"version": VERSION, "digest": _digest(parts, tensors), "plan": parts}
    text = json.dumps(structure, allow_nan=False).encode()
    return {**tensors, STRUCTURE: torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def from_tensors(tensors: Mapping[str, Tensor], device: torch.device | str | None = None) -> Plan:
    """Rebuild a plan from the tensors of `to_tensors`.

    Args:
        tensors: The tensors by name.
        device: Where the plan's tensors will be; None for where they are.

    Returns:
        A plan that mixes exactly as the original.

    Raises:
        ValueError: The tensors are no plan, or one that could not be applied.
    """
    if STRUCTURE not in tensors:
        names = ", ".join(sorted(tensors)) or "nothing"
        raise ValueError(f"tensors without {STRUCTURE!r}, which says what they are: {names}")
    try:
        structure = json.loads(bytes(tensors[STRUCTURE].tolist()))
        version = structure["version"]
        if version != VERSION:
            raise ValueError(f"a plan of version {version!r}, where {VERSION} is known")
        # Checked on the CPU, where values can be read at once, then rebuilt on the device.
        on_cpu = {name: tensor.cpu() for name, tensor in tensors.items() if name != STRUCTURE}
        if structure["digest"] != _digest(structure["plan"], on_cpu):
            raise ValueError("it is not what was recorded")
        plan = _rebuild(structure["plan"], on_cpu)
        if not isinstance(plan, Plan):
            raise ValueError(f"a structure that is no plan: {type(plan).__name__}")
        plan.check_fields()
        moved = {k: v if device is None else v.to(device) for k, v in tensors.items()}
        on_device: Plan = _rebuild(structure["plan"], moved)
    except ValueError as error:
        raise ValueError(f"a damaged plan: {_one_line(error)}") from None
    except (TypeError, KeyError, IndexError, AttributeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"a damaged plan: {type(error).__name__} {_one_line(error)}") from None
    return on_device


def _take_apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        shared = value.dim() > 0 and value.shape[0] > 1 and value.stride(0) == 0
        tensors[name] = (
            (value[:1] if shared else value).detach().clone(memory_format=torch.contiguous_format)
        )
        return {"tensor": name, "rows": value.shape[0] if shared else None}
    if isinstance(value, Plan) and is_dataclass(value):
        parts = {
            field.name: _take_apart(getattr(value, field.name), _joined(name, field.name), tensors)
            for field in fields(value)
        }
        return {"kind": type(value).__name__, "fields": parts}
    if isinstance(value, (list, tuple)):
        items = [_take_apart(item, _joined(name, at), tensors) for at, item in enumerate(value)]
        return {"items": items}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"{name}: expected tensors, numbers, words or plans, got {type(value).__name__}"
    )


def _rebuild(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        tensor, rows = tensors[node["tensor"]], node["rows"]
        return tensor if rows is None else tensor.expand(rows, *tensor.shape[1:])
    if "items" in node:
        return tuple(_rebuild(item, tensors) for item in node["items"])
    kinds = {kind.__name__: kind for kind in _kinds()}
    if node["kind"] not in kinds:
        raise ValueError(f"kind {node['kind']!r}, expected one of {', '.join(sorted(kinds))}")
    parts = {name: _rebuild(part, tensors) for name, part in node["fields"].items()}
    return kinds[node["kind"]](**parts)


def _kinds(base: Any = Plan) -> Iterator[type[Plan]]:
    """Yield all imported kinds of plan, including those of other packages."""
    # So that their kinds are known.
    from mixbench.augmentations.plans import (  # noqa: F401
        at_depth,
        composite,
        moments,
        overlay,
        transport,
        views,
    )

    for kind in base.__subclasses__():
        if not isabstract(kind):
            yield kind
        yield from _kinds(kind)


def _digest(parts: Any, tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of all names, values and tensors, which reveals any damage."""
    digest = blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _joined(name: str, part: object) -> str:
    return f"{name}.{part}" if name else str(part)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
