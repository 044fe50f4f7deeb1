"""Baselines: who is compared with whom, and what is made of the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mixbench.analysis.statistics.baselines import Baseline, parse_baseline
from mixbench.analysis.statistics.comparison import Comparison, compare
from mixbench.analysis.statistics.curves import mean_curves, pool_reliability
from mixbench.analysis.tables.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, grid, write_sweep

NONE, MIXUP, CUTMIX, CUTOUT = METHODS[:4]


def compared(
    path: Path, runs: list[dict[str, Any]], baseline: Baseline = None, spec: Baseline = None
) -> Comparison:
    tables = load(write_sweep(path, "sweep", runs))
    return compare(tables.cells, tables.runs, spec, baseline)


def bases(comparison: Comparison) -> dict[str, str | None]:
    cells = comparison.cells
    label = dict(zip(cells["cell_key"], cells["label"], strict=True))
    return {
        label[c]: label.get(b)
        for c, b in zip(cells["cell_key"], cells["baseline_key"], strict=True)
    }


def test_none_is_the_baseline_unless_told_otherwise(full_sweep: SweepFolder) -> None:
    tables = load(full_sweep)
    found = compare(tables.cells, tables.runs)
    assert set(bases(found).values()) == {"none"}
    assert len(found.differences) == 6 * len(found.metrics)


def test_differences_are_paired_by_seed_and_judged_together(full_sweep: SweepFolder) -> None:
    tables = load(full_sweep)
    found = compare(tables.cells, tables.runs)
    keys = list(tables.cells["cell_key"])
    for metric in ("test/accuracy", "test/ece", "occlusion/centre/area"):
        by = {k: tables.runs[tables.runs["cell_key"] == k][metric].to_numpy() for k in keys}
        for key in keys[1:]:
            contrast = found.differences[key, metric]
            assert contrast.mean == pytest.approx(np.mean(by[key] - by[keys[0]]))
            assert contrast.p is not None and contrast.df is not None
            # The p of one contrast alone, from its own standard error, is smaller.
            t = abs(contrast.mean or 0) / (contrast.standard_error or 1)
            assert contrast.p >= 2 * stats.t.sf(t, contrast.df) - 1e-4
            assert contrast.p <= min(1, 6 * 2 * stats.t.sf(t, contrast.df)) + 2e-3
            assert contrast.is_clear == (contrast.p < 0.05)


def test_comparisons_stay_within_the_other_factors(tmp_path: Path) -> None:
    runs = [
        run
        for model in ("small_cnn", "timm/resnet18")
        for ls in (0.0, 0.1)
        for run in grid([NONE, CUTMIX], range(2), model__name=model, training__label_smoothing=ls)
    ]
    found = compared(tmp_path, runs)
    for cell, base in bases(found).items():
        assert base == cell.replace("cutmix", "none")
    assert found.cells["block"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.cells["series"].tolist() == ["none", "cutmix"] * 4
    assert found.cells["title"].tolist()[2] == "small_cnn · label_smoothing 0.1"


def test_another_factor_as_the_baseline(tmp_path: Path) -> None:
    runs = [r for ls in (0.0, 0.1) for r in grid([NONE, CUTMIX], [0], training__label_smoothing=ls)]
    found = compared(tmp_path, runs, "training.label_smoothing=0")
    for cell, base in bases(found).items():
        assert base == cell.replace("0.1", "0")


def test_a_variant_as_the_baseline(tmp_path: Path) -> None:
    runs = grid([{**CUTMIX, "alpha": alpha} for alpha in (0.2, 1.0)] + [MIXUP], [0])
    wanted = {"augmentation": {"name": "cutmix", "alpha": 0.2}}
    assert set(bases(compared(tmp_path, runs, wanted)).values()) == {"cutmix α=0.2"}


def test_a_baseline_that_fits_several_cells_is_refused(tmp_path: Path) -> None:
    runs = grid([{**CUTMIX, "alpha": alpha} for alpha in (0.2, 1.0)] + [MIXUP], [0])
    with pytest.raises(UserError, match="fits several cells"):
        compared(tmp_path, runs, "cutmix")


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("mixap", "fits no cell.*cutmix, none"),
        ("augmentation.alfa=1", "no cell has the field 'augmentation.alfa'"),
        ({}, "expected keys and values"),
    ],
)
def test_a_wrong_baseline_is_the_users_error(
    tmp_path: Path, baseline: Baseline, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compared(tmp_path, grid([NONE, CUTMIX], [0]), baseline)


def test_a_wrong_baseline_in_the_sweep_leaves_a_note(tmp_path: Path) -> None:
    found = compared(tmp_path, grid([MIXUP, CUTMIX], [0]), spec={"augmentation.name": "none"})
    assert not found.differences
    assert "fits no cell" in found.note


def test_the_option_goes_before_the_sweeps_own(tmp_path: Path) -> None:
    runs = grid([NONE, MIXUP, CUTMIX], [0])
    found = compared(tmp_path, runs, baseline="mixup", spec={"augmentation.name": "none"})
    assert set(bases(found).values()) == {"mixup"}


def test_spellings_of_a_baseline() -> None:
    assert parse_baseline("none") == {"augmentation.name": "none"}
    assert parse_baseline({"augmentation": "none"}) == {"augmentation.name": "none"}
    assert parse_baseline("augmentation.name=cutmix, augmentation.alpha=0.2") == {
        "augmentation.name": "cutmix",
        "augmentation.alpha": 0.2,
    }
    assert parse_baseline("training.flip=true,model.width=null") == {
        "training.flip": True,
        "model.width": None,
    }


def test_pooling_weighs_by_images(full_sweep: SweepFolder) -> None:
    bins = load(full_sweep).reliability
    cell = bins["cell_key"].iloc[0]
    own = bins[(bins["cell_key"] == cell) & (bins["bin"] == 13)]
    pooled = pool_reliability(bins)
    found = pooled[(pooled["cell_key"] == cell)].iloc[13]
    assert found["count"] == own["count"].sum()
    right = (own["accuracy"] * own["count"]).sum()
    assert found["accuracy"] == pytest.approx(right / own["count"].sum())
    assert pooled.groupby("cell_key")["count"].sum().eq(5 * 400).all()


def test_occlusion_curves_have_intervals_over_seeds(full_sweep: SweepFolder) -> None:
    curves = load(full_sweep).occlusion
    found = mean_curves(curves, "shape", "fraction", "accuracy").iloc[2]
    own = curves[
        (curves["cell_key"] == found["cell_key"])
        & (curves["shape"] == "centre")
        & (curves["point"] == 2)
    ]["accuracy"]
    assert found["n"] == 5
    assert found["mean"] == pytest.approx(own.mean())
    half = stats.t.ppf(0.975, 4) * own.std(ddof=1) / np.sqrt(5)
    assert found["high"] - found["mean"] == pytest.approx(half)
