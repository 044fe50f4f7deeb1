"""What lowers the spread of paired differences, and whether it changes what they are.

    mixbench sweep tests/bench/averaged_weights.yaml
    python -m tests.bench.spread runs/averaged_weights [--write]

The runs' accuracies at the last epoch, by the moving average of the weights, and over the last
epochs of the validation accuracy are kept as a table in results/benchmarks; `time_to_verdict`
shows what follows from it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mixbench.experiments.store.sweep_folder import SweepFolder

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "results" / "benchmarks" / "averaged_weights.csv"
STUDY = ROOT / "results" / "main" / "runs.csv"
REGIME = ["training.epochs", "training.flip"]
WAYS = {
    "test, last weights": ("test/accuracy", "test/accuracy"),
    "test, moving average of the weights": ("ema/accuracy", "test/accuracy"),
    "validation, last epoch": ("validation/last_1", "validation/last_1"),
    "validation, mean of the last 3 epochs": ("validation/last_3", "validation/last_1"),
    "validation, mean of the last 5 epochs": ("validation/last_5", "validation/last_1"),
}
"""What is measured, and what it is compared with."""
RESAMPLED = 2000


def collect(folder: SweepFolder) -> pd.DataFrame:
    """Return a row per finished run, accuracies as fractions."""
    rows = []
    for run in folder.plan():
        result = run.folder.result()
        if result is None:
            continue
        epochs = [row["validation/accuracy"] for row in run.folder.metrics()]
        rows.append(
            {
                "method": run.config["augmentation"]["name"],
                "flip": run.config["training"]["flip"],
                "replicate": run.config["replicate"],
                "test/accuracy": result["metrics"]["test/accuracy"],
                "ema/accuracy": result["metrics"]["ema/accuracy"],
                **{
                    f"validation/last_{n}": round(float(np.mean(epochs[-n:])), 6) for n in (1, 3, 5)
                },
                "commit": result["provenance"]["commit"],
            }
        )
    return pd.DataFrame(rows).sort_values(["flip", "method", "replicate"])


def differences(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return (contrasts, replicates) differences to none, in points."""
    found = []
    for _, regime in table.groupby("flip"):
        values = 100 * regime.pivot(index="replicate", columns="method", values=column)
        found += [(values[method] - values["none"]) for method in values.columns.drop("none")]
    return np.array(found)


def spread(values: np.ndarray) -> float:
    """Return the standard deviation of paired differences over replicates, contrasts pooled."""
    return float(np.sqrt(values.var(axis=1, ddof=1).mean()))


def section() -> list[str]:
    """Return the lines of the page."""
    table = pd.read_csv(TABLE)
    random = np.random.default_rng(0)
    rows = []
    for name, (column, usual) in WAYS.items():
        values, base = differences(table, column), differences(table, usual)
        own = f"| {name} | {spread(values):.2f}"
        if column == usual:
            rows.append(f"{own} |  |  |")
            continue
        draws = random.integers(values.shape[1], size=(RESAMPLED, values.shape[1]))
        ratios = [spread(values[:, draw]) / spread(base[:, draw]) for draw in draws]
        low, high = np.quantile(ratios, (0.025, 0.975))
        changes = [
            f"{change.mean():+.2f} ± {stats.sem(change) * stats.t.ppf(0.975, len(change) - 1):.2f}"
            for change in values - base
        ]
        ratio = spread(values) / spread(base)
        rows.append(f"{own} | {ratio:.2f} [{low:.2f}, {high:.2f}] | {', '.join(changes)} |")
    plain, adjusted, raw, residual = covariate()
    levels = table.groupby(["flip", "method"])[["test/accuracy", "ema/accuracy"]].mean() * 100
    change = (levels["ema/accuracy"] - levels["test/accuracy"]).tolist()
    return [
        "## What lowers the spread of paired differences",
        "",
        "`mixbench sweep tests/bench/averaged_weights.yaml`, then `python -m tests.bench.spread "
        f"FOLDER --write`: {len(table)} runs as those of 15 epochs in `main`, none, MixUp and "
        "CutMix, without and with flips and crops, ten replicates. Standard deviation of a "
        "difference to none over replicates, in points, four contrasts pooled; the ratio has an "
        "interval over replicates (bootstrap); the last column is how the mean difference changes "
        "(CutMix, MixUp; CutMix, MixUp with flips and crops), 0 without bias.",
        "",
        "| accuracy | spread | ratio | change of the difference |",
        "|---|---|---|---|",
        *rows,
        "",
        f"The last weights have the test accuracy of `main` in {_as_in_main(table)} of the "
        f"{len(table)} runs: the average changes no training. With it (decay 0.98, some three "
        f"epochs) accuracies change by {min(change):+.1f} to {max(change):+.1f} points: the rate "
        "falls to 0 at the end, and an average lags behind. How much depends on the method, so "
        "differences to none change as well, and their spread is not seen to fall. Means over the "
        "last epochs may lower the spread a little, and change differences in the same way.",
        "",
        "The replicate's accuracy without mixing as a covariate, in `main` (six regimes, six "
        f"methods): the spread of what it leaves is {residual:.2f} instead of {raw:.2f} points. "
        "But the mean of the covariate must be known better than from the same replicates. With "
        "five pairs and five further runs of none the error of a mean difference (to that of all "
        f"ten pairs, root mean square) is {adjusted:.2f} points with the covariate and "
        f"{plain:.2f} without.",
        "",
        "None of the three is used: they answer another question, or save nothing. What saves "
        "runs is above: replicates in place of seeds, the pooled model, and looks.",
        "",
    ]


def _as_in_main(table: pd.DataFrame) -> int:
    """Count the runs whose test accuracy by the last weights is that of the study."""
    keys = ["augmentation.name", "training.flip", "replicate"]
    study = pd.read_csv(STUDY)
    known = study[study["training.epochs"] == 15].set_index(keys)["test/accuracy"]
    own = table.set_index(["method", "flip", "replicate"])["test/accuracy"]
    return int((own - known.reindex(own.index)).abs().lt(1e-9).sum())


def covariate() -> tuple[float, float, float, float]:
    """Return errors without and with the covariate, and the spreads before and after it."""
    random = np.random.default_rng(0)
    errors, spreads = [], []
    for _, regime in pd.read_csv(STUDY).groupby(REGIME):
        values = 100 * regime.pivot(
            index="replicate", columns="augmentation.name", values="test/accuracy"
        )
        none = values.pop("none").to_numpy()
        for name in values:
            own = values[name].to_numpy() - none
            left = own - np.polyval(np.polyfit(none, own, 1), none)
            spreads.append((own.var(ddof=1), (left**2).sum() / (len(own) - 2)))
            for _ in range(200):
                few = random.permutation(len(own))[: len(own) // 2]
                slope = np.polyfit(none[few], own[few], 1)[0]
                error = own[few].mean() - own.mean()
                errors.append((error, error - slope * (none[few].mean() - none.mean())))
    plain, adjusted = np.sqrt(np.square(errors).mean(axis=0))
    raw, residual = np.sqrt(np.mean(spreads, axis=0))
    return float(plain), float(adjusted), float(raw), float(residual)


def main() -> int:
    """Collect the runs of a sweep, print the section and, with --write, keep the table."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    if len(arguments) != 1:
        print(__doc__)
        return 2
    table = collect(SweepFolder.at(Path(arguments[0])))
    if "--write" in sys.argv[1:]:
        table.to_csv(TABLE, index=False)
        print(f"written: {TABLE}")
        print("\n".join(section()))
    else:
        print(table.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
