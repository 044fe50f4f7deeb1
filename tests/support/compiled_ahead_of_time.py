"""Kernels compiled for a GPU that is not there: what they become, without running them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mixbench.augmentations.pixels import kernels

HOPPER = GPUTarget("cuda", 90, 32)
_TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}


class Compiled:
    """Stands where a kernel stands: a launch compiles it for Hopper, and nothing runs."""

    def __init__(self, name: str, ptx: dict[str, str]) -> None:
        self.name, self.kernel, self.ptx = name, getattr(kernels, name), ptx

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        assert len(grid) == 3 and all(1 <= n < 2**31 for n in grid[:1])
        assert all(1 <= n <= 65535 for n in grid[1:])
        return self.launch

    def launch(self, *arguments: Any, num_warps: int, enable_fp_fusion: bool, **named: Any) -> None:
        """Compile, with what Triton would find out about the arguments."""
        names = list(inspect.signature(self.kernel.fn).parameters)
        values = {**dict(zip(names, arguments, strict=False)), **named}
        assert list(values) == names or set(values) == set(names)
        signature, constants, known = {}, {}, {}
        for place, name in enumerate(names):
            value = values[name]
            if isinstance(value, torch.Tensor):
                signature[name] = "*" + _TYPES[value.dtype]
                known[(place,)] = [["tt.divisibility", 16]]
            elif name.isupper() or (type(value) is int and value == 1):
                signature[name], constants[name] = "constexpr", value
            elif isinstance(value, int):
                signature[name] = "i32" if abs(value) < 2**31 else "i64"
                if value % 16 == 0:
                    known[(place,)] = [["tt.divisibility", 16]]
            else:
                signature[name] = "fp32"
        source = ASTSource(self.kernel, signature, constants, known)
        options = {"num_warps": num_warps, "enable_fp_fusion": enable_fp_fusion}
        made = triton.compile(source, target=HOPPER, options=options)
        assert made.asm["cubin"]
        self.ptx[self.name] = made.asm["ptx"]


def ahead(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """From now on launches compile; the PTX of each kernel goes into the result."""
    ptx: dict[str, str] = {}
    for name, value in list(vars(kernels).items()):
        if isinstance(value, triton.runtime.JITFunction) and not name.startswith("_"):
            monkeypatch.setattr(kernels, name, Compiled(name, ptx))
    return ptx
