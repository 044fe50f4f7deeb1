"""A run per cell above its runs, and the prepared view of a sweep in a real browser."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments import tracking
from mixbench.experiments.cli.cell_statistics import cell_statistics
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import tracked
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import projector
from mixbench.experiments.tracking.parameters import Plan
from mixbench.experiments.tracking.view import view
from tests.support import tracking_fixtures as made
from tests.support.tracking_servers import free_port

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FIGURES = {"cell.png": made.png("cell")}
STATISTICS = tracking.Statistics(cell_statistics().summaries, lambda _: FIGURES)


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[SweepFolder]:
    """Three cells of two runs, one run not begun; tracked by an earlier mixbench, then by this."""
    root = tmp_path_factory.mktemp("cells") / "runs"
    root.mkdir()
    shutil.copy(empty_store, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(root))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        sweep = made.make_sweep("study", made.METHODS[:3], seeds=2)
        for run in sweep.plan()[:5]:
            made.finish(run)
        (sweep.path / "report").mkdir()
        (sweep.path / "report" / "report.html").write_text("<h1>the report</h1>")
        # Without statistics there are no cells, as it was.
        assert tracking.project(sweep).created == 5
        assert tracking.project(sweep, statistics=STATISTICS).updated == 5
        yield sweep


def runs_of(sweep: SweepFolder, wanted: str = "") -> dict[str, Any]:
    """Name -> run of the sweep in MLflow."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking.resolve(sweep.path.parent))
    experiment = client.get_experiment_by_name(sweep.name)
    assert experiment is not None
    return {
        run.info.run_name: run for run in client.search_runs([experiment.experiment_id], wanted)
    }


def test_a_cell_stands_above_its_runs_with_their_mean(projected: SweepFolder) -> None:
    runs = runs_of(projected)
    assert len(runs) == 1 + 3 + 5
    cell, children = runs["none"], [runs["none seed 0"], runs["none seed 1"]]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {cell.info.run_id}
    assert "mlflow.parentRunId" not in cell.data.tags
    values = [run.data.metrics["test/accuracy"] for run in children]
    shown = cell.data.metrics
    assert shown["n"] == 2
    assert shown["mean/test/accuracy"] == pytest.approx(statistics.mean(values), rel=1e-12)
    # Of two values: t(0.975, 1) s / sqrt(2).
    half = 12.706204736 * statistics.stdev(values) / 2**0.5
    assert shown["half_width/test/accuracy"] == pytest.approx(half, rel=1e-8)
    # MLflow's average of a group that has the cell is that of the runs.
    assert not cell.data.metrics.keys() & children[0].data.metrics.keys()
    assert cell.data.params == children[0].data.params | {"seed": "-"}
    assert cell.data.tags["verdict"] == "baseline"
    assert [run.info.status for run in (cell, runs["mixup alpha=1.0"])] == ["FINISHED", "KILLED"]
    # One has no interval.
    assert runs["mixup alpha=1.0"].data.metrics["n"] == 1
    assert "half_width/test/accuracy" not in runs["mixup alpha=1.0"].data.metrics
    noted = tracked.read(projected.path)
    assert noted is not None and noted.cells[cell.data.tags["cell_key"]] == cell.info.run_id
    by_key = {run.data.tags["run_key"]: run for run in runs.values() if "run_key" in run.data.tags}
    assert noted.runs == {key: run.info.run_id for key, run in by_key.items()}
    found = runs_of(projected, "params.`augmentation.alpha` = '0.2'")
    assert set(found) == {"mixup alpha=0.2", "mixup alpha=0.2 seed 0", "mixup alpha=0.2 seed 1"}


def test_every_run_is_described_with_a_link_to_the_report(projected: SweepFolder) -> None:
    runs = runs_of(projected)
    whole = runs["study"].info.run_id
    for run in runs.values():
        note = run.data.tags["mlflow.note.content"]
        assert f"/runs/{whole}/artifacts/report.html" in note
    assert "| Accuracy |" in runs["none"].data.tags["mlflow.note.content"]
    for name, file in (("study", "report.html"), ("none", "figures/cell.png")):
        folder = Path(runs[name].info.artifact_uri.removeprefix("file://"))
        assert (folder / file).is_file()


def test_the_prepared_view_has_occlusion_with_both_fills(projected: SweepFolder) -> None:
    shared = view(Plan(projected.plan()), grouped=False)
    state = json.loads(zlib.decompress(base64.b64decode(shared.removeprefix("deflate;"))))
    fills = [f"occlusion/centre/{part}area" for part in ("", "noise/")]
    assert [f"metrics.`{key}`" for key in fills] == state["selectedColumns"][6:8]
    bars = [chart["metricKey"] for chart in state["compareRunCharts"] if chart["type"] == "BAR"]
    assert bars[-2:] == [f"mean/{key}" for key in fills]


def test_what_changes_is_written_and_nothing_else(
    projected: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(projected.path.parent, tmp_path / "runs")
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    sweep = SweepFolder.open("study")
    computed: list[str] = []

    def summaries(sweep: SweepFolder) -> Any:
        computed.append(sweep.name)
        return STATISTICS.summaries(sweep)

    counting = tracking.Statistics(summaries, STATISTICS.figures)
    before = runs_of(sweep)
    # A large sweep has figures of its cells alone, and says so.
    monkeypatch.setattr(projector, "MOST_DRAWN", 5)
    done = tracking.project(sweep, figures=made.figures, statistics=counting)
    assert done.unchanged == 5 and "5 runs without figures of their own" in done.problems[-1]
    assert not computed, "an unchanged sweep needs no statistics"
    assert tracking.verify(sweep, statistics=STATISTICS).equal
    from mlflow import MlflowClient

    client = MlflowClient(tracking.resolve(sweep.path.parent))
    mine = before["none"].info.run_id
    client.set_tag(mine, "mlflow.note.content", "my own words")
    client.set_tag(mine, "mlflow.runColor", "#123456")
    client.delete_run(before["mixup alpha=0.2"].info.run_id)
    path = sweep.plan()[0].folder.path / "result.json"
    result = sweep.plan()[0].folder.result()
    assert result is not None
    result["metrics"]["test/ece"] = 0.25
    atomic_write(path, dump(result))
    said = str(tracking.verify(sweep, statistics=STATISTICS))
    assert "none: metric mean/test/ece is" in said
    assert "mixup alpha=0.2: the cell's own run is not in MLflow" in said
    tracking.project(sweep, statistics=STATISTICS)
    assert tracking.verify(sweep, statistics=STATISTICS).equal
    after = runs_of(sweep)
    assert after["none"].info.run_id == mine, "what is open in a browser stays there"
    assert after["none"].data.metrics["mean/test/ece"] == pytest.approx((0.25 + 0.034) / 2)
    assert after["none"].data.tags["mlflow.note.content"] == "my own words"
    assert after["none"].data.tags["mlflow.runColor"] == "#123456"
    # A smaller sweep: the cell goes with its runs, and a mean of one has no interval.
    made.make_sweep("study", made.METHODS[:2], seeds=1)
    tracking.project(sweep, statistics=STATISTICS)
    assert set(runs_of(sweep)) == {"study", "none", "none seed 0", "mixup", "mixup seed 0"}
    assert tracking.verify(sweep, statistics=STATISTICS).equal


def test_dashboard_of_a_sweep_that_is_not_there(
    projected: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, port = projected.path.parent, free_port()
    monkeypatch.setenv("MIXBENCH_RUNS", str(root))
    other = made.make_sweep("other", made.METHODS[:1], seeds=1)
    with pytest.raises(UserError, match=r"other is not in MLflow at .*; mixbench track other"):
        tracking.dashboard(root, port, sweep=other)
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path))
    namesake = made.make_sweep("study", made.METHODS[:1], seeds=1)
    uri = f"sqlite:///{root / 'mlflow.db'}"
    with pytest.raises(UserError, match="an experiment 'study', but no run of this sweep"):
        tracking.dashboard(tmp_path, port, uri, sweep=namesake)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_prepared_view_in_a_browser(projected: SweepFolder, tmp_path: Path) -> None:
    script = """
import pathlib, sys
from mixbench.experiments import tracking
from mixbench.experiments.store.sweep_folder import SweepFolder
sweep = SweepFolder.open("study")
tracking.dashboard(sweep.path.parent, int(sys.argv[1]), sweep=sweep)
"""
    server = subprocess.Popen(
        [sys.executable, "-c", script, str(free_port())],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MIXBENCH_RUNS": str(projected.path.parent)},
    )
    try:
        assert server.stdout is not None
        (page,) = re.findall(r"MLflow dashboard: (\S+)", server.stdout.readline())
        assert "viewStateShareKey=mixbench&compareRunsMode=CHART" in page
        # Groups and children are visible, and the charts are drawn.
        drawn = ("Group: none", "none seed 1", "mean/test/accuracy", "validation/nll", "By method")
        charts = look(page, tmp_path / "charts", drawn)
        assert [text for text in drawn if text not in charts] == [] and "No charts" not in charts
        columns = ("verdict", "test/accuracy", "test/ece", "test/nll")
        columns += ("occlusion/centre/area",)
        table = look(page.replace("CHART", "TABLE"), tmp_path / "table", columns)
        assert [column for column in columns if column not in table] == []
    finally:
        server.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.communicate(timeout=60)


def look(page: str, profile: Path, wanted: Sequence[str]) -> str:
    """Return what the page holds once it is drawn; on a slow machine it is given more time."""
    content = ""
    for number, seconds in enumerate((30, 60, 120)):
        content = dumped(page, profile / str(number), seconds)
        if all(text in content for text in wanted):
            break
    return content


def dumped(page: str, profile: Path, seconds: int) -> str:
    """Return what the page holds after so many seconds of its own clock."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--window-size=1900,1300"]
    command += [f"--user-data-dir={profile}", f"--virtual-time-budget={seconds}000"]
    command += ["--dump-dom", page]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout
