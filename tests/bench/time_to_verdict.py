"""What a verdict costs: runs until a contrast is decided at the margin, and how often wrongly.

    python -m tests.bench.time_to_verdict [--write]

Simulated sweeps of six methods and none, with the spread that a review of the demo found (CutMix
minus none over nine training subsets and three seeds: subset 0.24 points, rest 0.40). The usual
way has some seeds on one subset and Holm's paired t tests. Ours has replicates, looks at 5, 10
and 20 of them with the levels of `sequential`, and only cells of undecided contrasts go on. A
verdict is wrong where the population of subsets says otherwise: better or worse without a
difference or against its sign, equivalent where the difference is above the margin.

The same on runs that were trained: the study `main`, six regimes of six methods and none. Its
replicates are put into a random order, again and again; the usual way sees the first five, ours
looks at five and at ten. The mean of all ten counts as the truth, so errors are understated: every
way judges a part of what it is compared with.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mixbench.analysis.statistics.contrasts import Stratum, Verdict, compare, many_to_one
from mixbench.analysis.statistics.sequential import look_levels
from tests.bench import spread

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "results" / "benchmarks" / "time_to_verdict.md"
SUBSET, REST = 0.24, 0.40
"""Standard deviations of a paired difference, in points."""
TRUTHS = (1.2, 0.8, 0.4, 0.0, 0.0, -1.5)
"""What the methods gain over none, in points, over all subsets."""
MARGIN, LEVEL = 0.5, 0.05
LOOKS = (5, 10, 20)
SWEEPS = 300


STUDY = ROOT / "results" / "main" / "runs.csv"
REGIME = ["training.epochs", "training.flip"]
ORDERS = 50


@dataclass
class Count:
    """Over all sweeps: contrasts, how many were decided or wrong, and the runs that it took."""

    sweeps: int = 0
    runs: int = 0
    contrasts: int = 0
    decided: int = 0
    wrong: int = 0
    sweeps_with_errors: int = 0
    decided_by_truth: dict[float, int] = field(default_factory=dict)

    def add(self, truths: Sequence[float], verdicts: list[str], runs: int) -> None:
        """Count one sweep."""
        self.sweeps += 1
        self.runs += runs
        errors = 0
        for truth, verdict in zip(truths, verdicts, strict=True):
            self.contrasts += 1
            self.decided += verdict != Verdict.UNDECIDED
            done = self.decided_by_truth.get(truth, 0)
            self.decided_by_truth[truth] = done + (verdict != Verdict.UNDECIDED)
            errors += is_wrong(truth, verdict)
        self.wrong += errors
        self.sweeps_with_errors += errors > 0

    def row(self, name: str, seconds: float) -> str:
        """Return a row of the table."""
        minutes = self.runs * seconds / 60 / max(1, self.decided)
        large = self.decided_by_truth.get(0.8)
        return (
            f"| {name} | {self.decided / self.contrasts:.0%} | "
            + (f"{large / self.sweeps:.0%} | " if large is not None else "")
            + f"{self.sweeps_with_errors / self.sweeps:.1%} | {self.runs / self.sweeps:.0f} | "
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


def usual(values: np.ndarray) -> tuple[list[str], int]:
    """Judge (n, 1 + methods) values as published comparisons do: Holm's paired t tests."""
    differences = values[:, 1:] - values[:, :1]
    p = multipletests(stats.ttest_1samp(differences, 0).pvalue, method="holm")[1]
    verdicts: list[str] = [Verdict.UNDECIDED] * differences.shape[1]
    for method, value in enumerate(p):
        if value < LEVEL:
            is_better = differences[:, method].mean() > 0
            verdicts[method] = Verdict.BETTER if is_better else Verdict.WORSE
    return verdicts, values.size


def ours(values: np.ndarray, looks: tuple[int, ...]) -> tuple[list[str], int]:
    """Judge replicates at looks; cells of undecided contrasts, and none, go on."""
    verdicts: list[str] = [Verdict.UNDECIDED] * (values.shape[1] - 1)
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


def simulated() -> list[str]:
    """Return rows of simulated sweeps."""
    seconds = _seconds_of_a_run(epochs=45)
    random = np.random.default_rng(0)
    rows = []
    for name, n, subsets, judge in (
        ("5 seeds, one subset, Holm", 5, 1, usual),
        ("20 seeds, one subset, Holm", 20, 1, usual),
        ("5 replicates", 5, 5, lambda values: ours(values, (5,))),
        ("20 replicates", 20, 20, lambda values: ours(values, (20,))),
        (f"replicates, looks at {_listed(LOOKS)}", 20, 20, lambda values: ours(values, LOOKS)),
    ):
        count = Count()
        for _ in range(SWEEPS):
            count.add(TRUTHS, *judge(draw(random, n, subsets=subsets)))
        rows.append(count.row(name, seconds))
        print(rows[-1], flush=True)
    return rows


def trained() -> list[str]:
    """Return rows of the study `main`, whose replicates come in random orders."""
    table = pd.read_csv(STUDY)
    regimes = []
    for _, regime in table.groupby(REGIME):
        values = regime.pivot(
            index="replicate", columns="augmentation.name", values="test/accuracy"
        )
        methods = sorted(values.columns.drop("none"))
        regimes.append(100 * values[["none", *methods]].to_numpy())
    random = np.random.default_rng(0)
    orders = [random.permutation(len(values)) for values in regimes for _ in range(ORDERS)]
    looks = (5, len(regimes[0]))
    rows = []
    for name, judge in (
        ("5 replicates, Holm", lambda values: usual(values[:5])),
        (f"{looks[1]} replicates, Holm", usual),
        ("5 replicates", lambda values: ours(values, (5,))),
        (f"{looks[1]} replicates", lambda values: ours(values, looks[1:])),
        (f"replicates, looks at {_listed(looks)}", lambda values: ours(values, looks)),
    ):
        count = Count()
        for number, order in enumerate(orders):
            values = regimes[number // ORDERS]
            truths = (values[:, 1:] - values[:, :1]).mean(axis=0).tolist()
            count.add(truths, *judge(values[order]))
        rows.append(count.row(name, _seconds_of_a_run()))
        print(rows[-1], flush=True)
    return rows


def main() -> int:
    """Judge simulated and trained sweeps, print and, with --write, keep the tables."""
    page = _page(simulated(), trained())
    if "--write" in sys.argv[1:]:
        TABLE.write_text(page)
        print(f"written: {TABLE}")
    return 0


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _seconds_of_a_run(*, epochs: int | None = None) -> float:
    """Return the seconds of one core that a run of `main` took, of one length or of all.

    The median of each regime, as the machine had other work at times.
    """
    runs = pd.read_csv(STUDY)
    if epochs is not None:
        runs = runs[runs["training.epochs"] == epochs]
    parts = [f"timing.{part}_seconds" for part in ("setup", "train", "evaluate")]
    spent = runs[parts].sum(axis=1) * runs["provenance.threads"]
    return float(spent.groupby([runs[key] for key in REGIME]).median().mean())


def _page(simulated: list[str], trained: list[str]) -> str:
    head = (
        "| way | contrasts decided | sweeps with a wrong verdict | runs a sweep | "
        "runs a decided contrast | core-minutes a decided contrast |"
    )
    paragraphs = [" ".join(text.split()) for text in (__doc__ or "").split("\n\n")]
    return "\n".join(
        (
            "# What a verdict costs",
            "",
            f"`python -m tests.bench.time_to_verdict --write`: {SWEEPS} simulated sweeps each. "
            f"{paragraphs[2]}",
            "",
            f"True gains: {', '.join(f'{truth:+g}' for truth in TRUTHS)} points; margin "
            f"{MARGIN:g}. A run counts as {_seconds_of_a_run(epochs=45):.0f} s of one core, "
            "as those of 45 epochs in results/main.",
            "",
            head.replace("decided | sweeps", "decided | of +0.8 points | sweeps", 1),
            "|---|---|---|---|---|---|---|",
            *simulated,
            "",
            "## On trained runs",
            "",
            f"{paragraphs[3]} {ORDERS} orders of each regime; a run took "
            f"{_seconds_of_a_run():.0f} s of one core.",
            "",
            head,
            "|---|---|---|---|---|---|",
            *trained,
            "",
            *spread.section(),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
