"""`make chaos`: a thousand kills, and a summary of them in `results/reliability`.

python -m tests.chaos [--kills 1000] [--to results/reliability]
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mixbench.experiments.store import provenance
from mixbench.slurm.local import cores
from tests.chaos import storm
from tests.chaos.nursery import Nursery
from tests.chaos.places import PLACES

COMMAND = "make chaos"
WORDS = {1: "one CPU core", 2: "two CPU cores", 4: "four CPU cores", 8: "eight CPU cores"}


def storms(root: Path, kills: int) -> tuple[storm.Outcome, list[int]]:
    """One storm after the other until there were so many kills, and one at least at every place.

    Returns all that came of them, and their seeds.
    """
    total = storm.Outcome()
    deck = storm.Deck(0)
    with Nursery() as nursery:
        expected = storm.calm(nursery, _new(root / "calm"))
        for seed in itertools.count():
            place = _new(root / str(seed))
            came = storm.storm(nursery, place, seed, deck, expected)
            print(
                f"storm {seed}: {sum(came.kills.values())} kills, {came.runs} runs, "
                f"{sum(came.attempts.values())} attempts, {came.seconds:.0f} s",
                *came.wrong,
                sep="\n  ",
                flush=True,
            )
            total += came
            missed = [place for place in (*PLACES, storm.ANY_MOMENT) if not total.kills[place]]
            if total.wrong or (sum(total.kills.values()) >= kills and not missed):
                return total, list(range(seed + 1))
            if sum(total.kills.values()) >= kills:
                deck.put_first(missed)
    raise AssertionError("unreachable")


def summary(total: storm.Outcome, seeds: list[int]) -> dict[str, Any]:
    """What is written down."""
    count = cores()
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": WORDS.get(count, f"{count} CPU cores"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "commit": provenance.commit(),
        "command": COMMAND,
        "seconds": round(total.seconds),
        "seeds": seeds,
        "sweeps": len(seeds),
        "workers at once": storm.WORKERS,
        "runs": total.runs,
        "attempts": dict(sorted(total.attempts.items())),
        "kills": sum(total.kills.values()),
        "kills by place": {place: total.kills[place] for place in [storm.ANY_MOMENT, *PLACES]},
        "kills of a worker without a run": total.idle_kills,
        "kills after the result": total.late_kills,
        "lost results": total.lost,
        "double runs": total.double,
        "runs held by two at once": total.at_once,
        "torn files": total.torn,
        "runs that came out different": total.different,
        "bit-identical": total.different == 0 and total.lost == 0,
        "broken promises": total.wrong,
    }


def as_markdown(found: dict[str, Any]) -> str:
    """The summary for a reader."""
    seeds = found["seeds"]
    died = found["attempts"].get("died", 0)
    lines = [
        "# Chaos: what kills do to sweeps",
        "",
        f"{found['date']}, {found['machine']}, Python {found['python']}, torch {found['torch']}, "
        f"commit {found['commit']}; `{found['command']}`, {found['seconds'] // 60} min.",
        "",
        f"{found['sweeps']} sweeps (seeds {seeds[0]} to {seeds[-1]}) of "
        f"{found['runs'] // found['sweeps']} real runs on digits, with a checkpoint before every "
        f"step. {found['workers at once']} workers at once were killed with SIGKILL and replaced "
        "until each sweep was done: at the places below, or at any moment of their first "
        f"{storm.LONGEST_LIFE} s.",
        "",
        "| | |",
        "|---|---|",
        f"| kills | {found['kills']} |",
        f"| runs | {found['runs']} |",
        f"| attempts | {sum(found['attempts'].values())}: "
        + ", ".join(f"{count} {name}" for name, count in found["attempts"].items())
        + " |",
        *(
            f"| {name} | {found[name]} |"
            for name in ("lost results", "double runs", "runs held by two at once", "torn files")
        ),
        "| results bit-identical to a sweep left alone | "
        f"{'yes' if found['bit-identical'] else 'NO'} |",
        "",
        f"Every kill is accounted for: {died} are attempts on record as died, "
        f"{found['kills of a worker without a run']} hit a worker that held no run, "
        f"{found['kills after the result']} one whose result was in place.",
        "",
        "| killed at | kills |",
        "|---|---:|",
        *(f"| {place} | {count} |" for place, count in found["kills by place"].items()),
        "",
    ]
    if found["broken promises"]:
        lines += ["## Broken promises", "", *(f"- {what}" for what in found["broken promises"]), ""]
    return "\n".join(lines)


def main() -> int:
    """The command line; exit status 1 if any promise was broken."""
    parser = argparse.ArgumentParser(description="Kill workers of small sweeps, and look.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--to", type=Path, default=Path("results/reliability"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos") as root:
        total, seeds = storms(Path(root), options.kills)
    found = summary(total, seeds)
    options.to.mkdir(parents=True, exist_ok=True)
    (options.to / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.to / "summary.md").write_text(as_markdown(found))
    print(f"{found['kills']} kills, {found['runs']} runs, {len(total.wrong)} promises broken")
    print(options.to / "summary.md")
    return 1 if total.wrong else 0


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
