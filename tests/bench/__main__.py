"""`make bench`: all benchmarks, one after the other, each in a process of its own.

python -m tests.bench               all of them
python -m tests.bench expansion     one of them
"""

from __future__ import annotations

import argparse
import subprocess
import sys

ALL = (
    "throughput",
    "expansion",
    "claiming",
    "growth",
    "status",
    "reuse",
    "overhead",
    "checkpoints",
    "projection",
    "augment",
    "boxes",
    "paths",
    "device",
    "transfer",
    "evaluate",
    "pictures",
    "time_to_verdict",
    "results",
)


def main() -> int:
    """Run them; exit status 1 when one of them missed its target."""
    parser = argparse.ArgumentParser(description="Measure mixbench's speed.")
    parser.add_argument("which", nargs="*", choices=[*ALL, []], help=", ".join(ALL))
    options = parser.parse_args()
    missed = []
    for name in options.which or ALL:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=False).returncode:
            missed.append(name)
    print(f"missed: {', '.join(missed)}" if missed else "all targets met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
