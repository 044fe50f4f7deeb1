"""Several sweeps on one page: joined by their settings, ranked over data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mixbench.experiments import cli
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, grid, write_sweep

DATASETS = ("fashion_mnist", "mnist", "digits")

PUBLISHED = (
    "method,dataset,protocol,source,test/accuracy\n"
    "none,MNIST,200 epochs,<b>someone</b>,0.99\ncutmix,MNIST,200 epochs,<b>someone</b>,0.995\n"
    "cutmix,,90 epochs,another,0.7\n"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep per data set; the last has twice the epochs too, and half of the first's runs."""
    root = tmp_path_factory.mktemp("joined")
    for place, dataset in enumerate(DATASETS):
        runs = grid(METHODS[:4], range(3), dataset__name=dataset)
        if dataset == "digits":
            runs += grid(METHODS[:4], range(3), dataset__name=dataset, training__epochs=60)
        write_sweep(root, f"on_{place}", runs)
    write_sweep(root, "again", grid(METHODS[:4], range(2), dataset__name=DATASETS[0]))
    write_sweep(root, "alien", grid(METHODS[5:6], range(2), dataset__name="cifar10"))
    return root


@pytest.fixture(scope="module")
def page(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    (out / "published.csv").write_text(PUBLISHED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(root))
        names = ["on_0", "on_1", str(root / "on_2"), "again"]
        source = ["--from", f"csv:{out / 'published.csv'}"]
        assert cli.main(["report", *names, *source, "--out", str(out)]) == 0
    return out


def _means(root: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for place in range(3):
        for run in SweepFolder(root / f"on_{place}").plan():
            result = run.folder.result()
            assert result is not None
            rows.append(
                {
                    "method": run.config["augmentation"]["name"],
                    "dataset": run.config["dataset"]["name"],
                    "epochs": run.config["training"]["epochs"],
                    "seed": run.config["seed"],
                    "accuracy": result["metrics"]["test/accuracy"],
                }
            )
    return pd.DataFrame(rows)


def test_ranks_and_differences_over_data_sets_are_scipys(root: Path, page: Path) -> None:
    ranks = json.loads((page / "ranks.json").read_text())[0]
    assert ranks["metric"] == "test/accuracy" and ranks["datasets"] == list(DATASETS)
    means = _means(root).groupby(["method", "dataset", "epochs"])["accuracy"].mean()
    table = means.groupby(["method", "dataset"]).mean().unstack()[list(DATASETS)]
    oracle = stats.rankdata(-table.to_numpy(), axis=0).mean(axis=1)
    assert ranks["average_rank"] == pytest.approx(dict(zip(table.index, oracle, strict=True)))
    friedman = stats.friedmanchisquare(*table.to_numpy()).pvalue
    assert ranks["friedman_p"] == pytest.approx(friedman)
    gain = table.loc["cutmix"] - table.loc["none"]
    pooled = ranks["pooled"]["cutmix"]
    assert gain.min() <= pooled["difference"] <= gain.max()
    assert pooled["low"] < pooled["difference"] < pooled["high"]


def test_every_run_counts_once_and_settings_are_kept_apart(root: Path, page: Path) -> None:
    runs = pd.read_csv(page / "runs.csv")
    assert len(runs) == 48 and runs["run_key"].is_unique
    found = json.loads((page / "verdicts.json").read_text())
    accuracy = [one for one in found["contrasts"] if one["metric"] == "test/accuracy"]
    assert len(accuracy) == 4 * 3 and {one["n"] for one in accuracy} == {3}
    assert len({one["stratum"] for one in accuracy}) == 4
    by_cell = _means(root).pivot_table(
        index=["dataset", "epochs", "seed"], columns="method", values="accuracy"
    )
    expected = (by_cell["cutmix"] - by_cell["none"]).groupby(["dataset", "epochs"]).mean()
    differences = [one["difference"] for one in accuracy if one["label"] == "cutmix"]
    assert np.sort(differences) == pytest.approx(np.sort(expected))


def test_published_numbers_stand_beside_ours(root: Path, page: Path) -> None:
    text = (page / "report.md").read_text()
    rows = [line for line in text.splitlines() if "200 epochs |" in line or "90 epochs |" in line]
    assert len(rows) == 3 and rows[1].startswith("| CutMix | 99.50 | +0.50 |")
    means = _means(root).groupby(["dataset", "method"])["accuracy"].mean() * 100
    gain = means["mnist", "cutmix"] - means["mnist", "none"]
    assert f"| {means['mnist', 'cutmix']:.2f} | {gain:+.2f} |" in rows[1]
    assert "2 protocols: 200 epochs; 90 epochs" in text and "<b>someone" not in text
    assert "<b>someone" not in (page / "report.html").read_text()
    # Of no data set: from the lowest to the highest of all of ours.
    assert " to " in rows[2] and rows[2].startswith("| CutMix | 70.00 | – |")
    assert {path.name for path in (page / "tables").iterdir()} >= {"ranks.tex", "results.parquet"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("on_0", "on_1"), "--out DIR"),
        (("on_0", "alien", "--out", "x"), "shares no method and no setting"),
        (("on_0", "on_1", "--out", "x", "--baseline", "mixop"), "fits no cell"),
        (("on_0", "nowhere", "--out", "x"), "no sweep 'nowhere'"),
        (("on_0", "on_1", "--out", "x", "--publish", "y"), "one sweep"),
        (("on_0", "--from", "csv:nowhere.csv", "--out", "x"), "no such file"),
    ],
)
def test_bad_input_is_one_line(
    root: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(root))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err and len(said.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
