"""The descriptions of runs in MLflow."""

from __future__ import annotations

from mixbench.experiments.tracking.notes import run_note


def test_a_description_has_the_metrics_of_its_task() -> None:
    metrics = {"test/nll": 1.0, "test/miou": 0.5, "test/boundary_iou": 0.25}
    config = {"task": {"name": "segmentation"}}
    assert run_note("a", "done", metrics, config) == "**a**: mIoU 50.00 %, Boundary IoU 25.00 %."
    config = {"task": {"name": "regression"}}
    assert run_note("a", "done", {"test/rmse": 2.5}, config) == "**a**: RMSE 2.5000."
    assert run_note("a", "done", {"test/accuracy": 0.8}) == "**a**: accuracy 80.00 %."
