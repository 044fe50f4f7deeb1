"""What one file of tests could leave changed for the next one of the same process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

PREFIXES = ("MIXBENCH_", "MLFLOW_", "SLURM_", "OMP_", "CUDA_", "PYTHON")
"""Of the names of environment variables that are looked at."""
PLAIN = (int, float, str, bytes, type(None))


class Found(NamedTuple):
    """A file of tests, and the state that its first test found."""

    file: Path | None
    state: dict[str, Any]


FOUND = Found(None, {})


def state() -> dict[str, Any]:
    """Read it, by name: in some milliseconds, and importing nothing."""
    found: dict[str, Any] = {
        f"${name}": value for name, value in os.environ.items() if name.startswith(PREFIXES)
    }
    found["the working folder"] = os.getcwd()
    found["the cores that may be used"] = os.sched_getaffinity(0)
    found["what becomes of Ctrl-C"] = signal.getsignal(signal.SIGINT)
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch's threads"] = torch.get_num_threads()
        found["torch's default dtype"] = torch.get_default_dtype()
        found["torch's deterministic algorithms"] = torch.are_deterministic_algorithms_enabled()
        found["torch's gradients"] = torch.is_grad_enabled()
    # Limits and the like.
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("mixbench"):
            for name, value in list(vars(module).items()):
                if name.isupper() and isinstance(value, PLAIN):
                    found[f"{module_name}.{name}"] = value
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Say what is not as before; a module that was imported meanwhile is no change."""
    names = [name for name in before if name.startswith("$") or name in after]
    names += [name for name in after if name.startswith("$") and name not in before]
    return [
        f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in names
        if before.get(name) != after.get(name)
    ]
