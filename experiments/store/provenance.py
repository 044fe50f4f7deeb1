"""Record where a result comes from: device, host, versions and the commit of this code."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mixbench

if TYPE_CHECKING:
    import torch

CHANGED = "+changes"
"""The end of a commit's name if the code had uncommitted changes."""

SNAPSHOT = "COMMIT"
"""The file in a copy of the code that says which commit it was made from."""


def of(device: torch.device) -> dict[str, Any]:
    """Where and with what a result is made."""
    import torch

    record = {
        "device": device_name(device),
        "host": platform.node(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mixbench": version("mixbench"),
        "commit": commit(),
    }
    others = plugins()
    return {**record, "plugins": others} if others else record


def plugins() -> dict[str, str]:
    """The version of each installed distribution that adds augmentations.

    Their code is not in a sweep's copy of the code: this is how a result tells which one made it.
    """
    from mixbench import augmentations

    usable = [plugin for plugin in augmentations.plugins() if plugin.method is not None]
    return {plugin.distribution: plugin.version for plugin in usable}


def device_name(device: torch.device) -> str:
    """Such as "cuda: NVIDIA H100" or "cpu: AMD EPYC"."""
    if device.type == "cuda":
        import torch

        return f"cuda: {torch.cuda.get_device_name(device)}"
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{device.type}: {model}"


@cache
def commit() -> str | None:
    """The commit of this checkout, or copy of one, with "+changes" if edited; None elsewhere."""
    root = Path(mixbench.__file__).resolve().parent.parent
    with contextlib.suppress(OSError):
        # A sweep's snapshot of the code, see snapshot.py.
        return (root / SNAPSHOT).read_text().strip() or None
    git = ["git", "-C", str(root)]
    try:
        top = _output([*git, "rev-parse", "--show-toplevel"])
        # Installed into an environment inside somebody else's checkout: not our commit.
        if Path(top) != root:
            return None
        head = _output([*git, "rev-parse", "HEAD"])
        changed = _output([*git, "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}{CHANGED}" if changed else head


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
