"""What a verdict costs: runs until a contrast is decided at the margin, and how often wrongly.

    python -m tests.bench.time_to_verdict [--write]

Simulated sweeps of six methods and none, with the spread that a review of the demo found (CutMix
minus none over nine training subsets and three seeds: subset 0.24 points, rest 0.40). The usual
way has some seeds on one subset and Holm's paired t tests. Ours has replicates, looks at 5, 10
and 20 of them with the levels of `sequential`, and only cells of undecided contrasts go on. A
verdict is wrong where the population of subsets says otherwise: better or worse without a
difference or against its sign, equivalent where the difference is above the margin.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mixbench.analysis.statistics.contrasts import Stratum, Verdict, compare, many_to_one
from mixbench.analysis.statistics.sequential import look_levels

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "results" / "benchmarks" / "time_to_verdict.md"
SUBSET, REST = 0.24, 0.40
"""Standard deviations of a paired difference, in points."""
TRUTHS = (1.2, 0.8, 0.4, 0.0, 0.0, -1.5)
"""What the methods gain over none, in points, over all subsets."""
MARGIN, LEVEL = 0.5, 0.05
LOOKS = (5, 10, 20)
SWEEPS = 300


@dataclass
class Count:
    """Over all sweeps: contrasts, how many were decided or wrong, and the runs that it took."""

    runs: int = 0
    contrasts: int = 0
    decided: int = 0
    wrong: int = 0
    sweeps_with_errors: int = 0
    decided_by_truth: dict[float, int] = field(default_factory=dict)

    def add(self, verdicts: list[str], runs: int) -> None:
        """Count one sweep."""
        self.runs += runs
        errors = 0
        for truth, verdict in zip(TRUTHS, verdicts, strict=True):
            self.contrasts += 1
            self.decided += verdict != Verdict.UNDECIDED
            done = self.decided_by_truth.get(truth, 0)
            self.decided_by_truth[truth] = done + (verdict != Verdict.UNDECIDED)
            errors += is_wrong(truth, verdict)
        self.wrong += errors
        self.sweeps_with_errors += errors > 0

    def row(self, name: str, sweeps: int, seconds: float) -> str:
        """Return a row of the table."""
        minutes = self.runs * seconds / 60 / max(1, self.decided)
        of_large = self.decided_by_truth[0.8] / sweeps
        return (
            f"| {name} | {self.decided / self.contrasts:.0%} | {of_large:.0%} | "
            f"{self.sweeps_with_errors / sweeps:.1%} | {self.runs / sweeps:.0f} | "
            f"{self.runs / max(1, self.decided):.1f} | {minutes:.1f} |"
        )


def is_wrong(truth: float, verdict: str) -> bool:
    """Tell whether a verdict contradicts the truth."""
    if verdict == Verdict.EQUIVALENT:
        return abs(truth) > MARGIN
    return (verdict == Verdict.BETTER and truth <= 0) or (verdict == Verdict.WORSE and truth >= 0)


def draw(random: np.random.Generator, n: int, *, subsets: int) -> np.ndarray:
    """Return (n, 1 + methods) accuracies in points; a subset's part is that of each method."""
    methods = len(TRUTHS)
    of_subset = random.normal(size=(subsets, methods)) * SUBSET
    own = np.resize(of_subset, (n, methods)) if subsets > 1 else np.tile(of_subset, (n, 1))
    cells = random.normal(size=(n, methods + 1)) * REST / 2**0.5
    cells[:, 1:] += np.array(TRUTHS) + own
    return cells


def usual(random: np.random.Generator, seeds: int) -> tuple[list[str], int]:
    """Judge as published comparisons do: seeds on one subset, Holm's paired t tests."""
    values = draw(random, seeds, subsets=1)
    differences = values[:, 1:] - values[:, :1]
    p = multipletests(stats.ttest_1samp(differences, 0).pvalue, method="holm")[1]
    verdicts: list[str] = [Verdict.UNDECIDED] * len(TRUTHS)
    for method, value in enumerate(p):
        if value < LEVEL:
            is_better = differences[:, method].mean() > 0
            verdicts[method] = Verdict.BETTER if is_better else Verdict.WORSE
    return verdicts, seeds * values.shape[1]


def ours(random: np.random.Generator, looks: tuple[int, ...]) -> tuple[list[str], int]:
    """Judge replicates at looks; cells of undecided contrasts, and none, go on."""
    values = draw(random, looks[-1], subsets=looks[-1])
    verdicts: list[str] = [Verdict.UNDECIDED] * len(TRUTHS)
    runs = last = 0
    for look, level in zip(looks, look_levels(looks, LEVEL), strict=True):
        left = [m for m, verdict in enumerate(verdicts) if verdict == Verdict.UNDECIDED]
        if not left:
            break
        runs += (look - last) * (len(left) + 1)
        last = look
        cells = {"none": 0, **{str(method): method + 1 for method in left}}
        known = {
            name: dict(enumerate(values[:look, column].tolist())) for name, column in cells.items()
        }
        stratum = Stratum("all", known, many_to_one(list(known), "none"))
        for contrast in compare([stratum], margin=MARGIN, level=level):
            verdicts[int(contrast.cell)] = contrast.verdict
    return verdicts, runs


def main() -> int:
    """Simulate, print and, with --write, keep the table."""
    seconds = _seconds_of_a_run()
    random = np.random.default_rng(0)
    rows = []
    for name, judge in (
        ("5 seeds, one subset, Holm", lambda: usual(random, 5)),
        ("20 seeds, one subset, Holm", lambda: usual(random, 20)),
        ("5 replicates", lambda: ours(random, (5,))),
        ("20 replicates", lambda: ours(random, (20,))),
        (f"replicates, looks at {', '.join(map(str, LOOKS))}", lambda: ours(random, LOOKS)),
    ):
        count = Count()
        for _ in range(SWEEPS):
            count.add(*judge())
        rows.append(count.row(name, SWEEPS, seconds))
        print(rows[-1], flush=True)
    if "--write" in sys.argv[1:]:
        TABLE.write_text(_page(rows, seconds))
        print(f"written: {TABLE}")
    return 0


def _seconds_of_a_run() -> float:
    """Return the CPU seconds of a run of the demo, as its committed table has them."""
    runs = pd.read_csv(ROOT / "results" / "demo" / "runs.csv")
    spent = runs[["timing.setup_seconds", "timing.train_seconds", "timing.evaluate_seconds"]]
    return float((spent.sum(axis=1) * runs["provenance.threads"]).mean())


def _page(rows: list[str], seconds: float) -> str:
    head = (
        "| way | contrasts decided | of +0.8 points | sweeps with a wrong verdict | runs a sweep | "
        "runs a decided contrast | core-minutes a decided contrast |"
    )
    described = " ".join((__doc__ or "").split("\n\n")[2].split())
    return "\n".join(
        (
            "# What a verdict costs",
            "",
            f"`python -m tests.bench.time_to_verdict --write`: {SWEEPS} simulated sweeps each. "
            f"{described}",
            "",
            f"True gains: {', '.join(f'{truth:+g}' for truth in TRUTHS)} points; margin "
            f"{MARGIN:g}. A run counts as {seconds:.0f} s of one core, the mean of results/demo.",
            "",
            head,
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
