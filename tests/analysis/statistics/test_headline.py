"""The metric that leads a sweep is its task's: direction and margin included."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from mixbench.analysis.report.changes import _metrics
from mixbench.analysis.statistics.comparison import compare
from mixbench.analysis.statistics.contrasts import Verdict
from mixbench.analysis.statistics.recommendation import recommend
from mixbench.analysis.text.verdict import summarise


def test_errors_lead_a_regression_and_lower_is_better() -> None:
    task = {"task.name": "regression", "dataset.name": "rotated_fashion_mnist"}
    cells = pd.DataFrame(
        [
            {
                "cell_key": key,
                "label": name,
                "augmentation.name": name,
                "done": 4,
                "group": "",
                "method": name,
                **task,
            }
            for key, name in (("a", "none"), ("b", "mixup"), ("c", "cutmix"))
        ]
    )
    noise = (0.0, 0.3, -0.2, 0.1)
    runs = pd.DataFrame(
        [
            {
                "cell_key": key,
                "run_key": f"{key}{seed}",
                "seed": seed,
                "state": "done",
                "test/rmse": mean + noise[seed] + wiggle * (seed % 3),
                "test/r2": 0.5,
                "data.target_sd": 50.0,
                **task,
            }
            for key, mean, wiggle in (("a", 20.0, 0.0), ("b", 17.0, 0.1), ("c", 24.0, -0.2))
            for seed in range(4)
        ]
    )
    compared = compare(cells, runs)
    assert compared.primary.key == "test/rmse" and compared.primary.margin == pytest.approx(0.5)
    assert [metric.key for metric in compared.metrics] == ["test/rmse", "test/r2"]
    assert compared.differences["b", "test/rmse"].verdict == Verdict.BETTER
    assert compared.differences["c", "test/rmse"].verdict == Verdict.WORSE
    assert list(compared.best.values()) == [["b"]]
    source: Any = SimpleNamespace(runs=runs, metric_columns=("test/r2", "test/rmse"))
    first, *_ = _metrics(source, source, {})
    assert first.key == "test/rmse" and first.margin == pytest.approx(0.5) and first.better == -1
    advice = recommend(compared, runs)
    text = summarise(compared, "digits", advice)
    shown = f"{text.headline} {text.paragraph}"
    assert "mixup −" in shown.lower() or "mixup" in text.headline.lower()
    assert "points" not in shown and "test RMSE" in shown
    assert "Better than the baseline (none): mixup −2.9" in text.paragraph
