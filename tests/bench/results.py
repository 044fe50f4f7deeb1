"""Run folders into Parquet, statistics, reports and their size, for 100, 1,000 and 10,000 runs.

    python -m tests.bench.results

The folders are generated in the real format: eight methods in many settings, five replicates each.
Each step is a process of its own; its seconds are those of the step, without imports. "warm" is the
same again, when nothing has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import many_runs

TARGETS = {
    ("parquet, cold", 10_000): 15.0,
    ("parquet, warm", 10_000): 1.0,
    ("statistics", 10_000): 10.0,
    ("report", 1000): 20.0,
    ("report", 10_000): 90.0,
    ("page, MB", 1000): 8.0,
    ("page, MB", 10_000): 8.0,
    ("import mixbench.analysis", 0): 0.5,
}
"""(step, runs) -> the most that it may take."""

STEPS = {
    "parquet": """
from mixbench import load_results
import pyarrow.parquet
def step():
    load_results(NAME).runs.to_parquet(OUT + ".parquet")
""",
    "statistics": """
from mixbench.analysis.statistics.comparison import compare
from mixbench.analysis.tables.load import load
from mixbench.experiments.store.sweep_folder import SweepFolder
tables = load(SweepFolder.open(NAME))
def step():
    compare(tables.cells, tables.runs)
""",
    "report": """
from mixbench.analysis.report.build import write_report
from mixbench.experiments.store.sweep_folder import SweepFolder
from pathlib import Path
def step():
    write_report(SweepFolder.open(NAME), Path(OUT))
""",
    "import mixbench.analysis": """
def step():
    import mixbench.analysis
    assert "torch" not in sys.modules
""",
}
_MEASURED = """
import json, sys, time
NAME, OUT = sys.argv[1:]
{code}
wall, cpu = time.perf_counter(), time.process_time()
step()
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


def main() -> int:
    """Measure and print; exit status 1 when a step takes longer than its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10_000])
    options = parser.parse_args()
    missed = []
    # Where there is memory for it: what is measured is not the disk.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        os.environ["MIXBENCH_RUNS"] = str(Path(scratch, "runs"))
        os.environ["MIXBENCH_CACHE"] = str(Path(scratch, "cache"))
        found = {("import mixbench.analysis", 0): _seconds("import mixbench.analysis", "", "")}
        for count in options.runs:
            name = f"sweep_{count}"
            many_runs.write(name, count)
            # What has just changed is not kept.
            for path in Path(scratch, "runs", name).rglob("*"):
                os.utime(path, (1.0, 1.0))
            out = str(Path(scratch, f"report_{count}"))
            for step, program in (
                ("parquet, cold", "parquet"),
                ("parquet, warm", "parquet"),
                ("statistics", "statistics"),
                ("report", "report"),
            ):
                found[step, count] = _seconds(program, name, out)
            size = Path(out, "report.html").stat().st_size / 1e6
            found["page, MB", count] = size, size
    for (step, count), (wall, cpu) in found.items():
        target = TARGETS.get((step, count))
        at_most = "" if target is None else f"  (at most {target:g})"
        print(f"{step:25} {count:7,} runs  {wall:7.2f}  of CPU {cpu:7.2f}{at_most}")
        if target is not None and wall > target:
            missed.append(f"{step}, {count:,} runs")
    print(f"missed: {'; '.join(missed)}" if missed else "all targets met")
    return 1 if missed else 0


def _seconds(step: str, name: str, out: str) -> tuple[float, float]:
    code = _MEASURED.format(code=STEPS[step])
    command = [sys.executable, "-c", code, name, out]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return wall, cpu


if __name__ == "__main__":
    sys.exit(main())
