"""The display of a sweep: what is counted, what is shown."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from experiments import claims
from experiments.progress import Display, Progress, Snapshot, duration, line
from experiments.store import SweepFolder, atomic_write, dump
from tests.experiments import running

NOW = Snapshot(
    total=6, done=2, failed=1, epochs=31.0, epochs_total=50, images_per_second=12345.6,
    seconds_left=75.0,
    running=[
        {"run_key": "0123456789abcdef", "augmentation": "cutmix", "seed": 3, "stage": "training",
         "epoch": 4.5, "epochs": 10, "images_per_second": 6000.0},
    ],
)  # fmt: skip


@pytest.fixture
def folder(runs: Path) -> SweepFolder:
    """Four runs of three epochs: one done, one failed, one half way, one waiting."""
    made = running.planned(running.spec("shown"))
    done, failed, running_one, _ = made.plan()
    for planned in (done, failed, running_one):
        planned.folder.path.mkdir()
    atomic_write(done.folder.path / "result.json", dump({}))
    failed.folder.fail("ValueError: no", "", 1)
    claim = claims.acquire(running_one.folder.path, "me", claims.Watch())
    assert claim is not None
    claim.renew({"stage": "training", "epoch": 1.5, "images_per_second": 100.0}, force=True)
    return made


def test_a_snapshot_counts_what_is_there(folder: SweepFolder) -> None:
    now = Progress(folder).snapshot()
    assert (now.total, now.done, now.failed, len(now.running)) == (4, 1, 1, 1)
    # A failed run's epochs are neither done nor to come.
    assert (now.epochs, now.epochs_total) == (4.5, 9)
    assert now.images_per_second == 100.0


def test_the_time_left_comes_from_the_epochs_since_the_start(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("experiments.progress.time.monotonic", lambda: clock[0])
    progress = Progress(folder)
    assert progress.snapshot().seconds_left is None
    atomic_write(folder.plan()[2].folder.path / "result.json", dump({}))
    clock[0] += 10.0
    # 1.5 epochs in 10 s, 3 to come.
    assert progress.snapshot().seconds_left == pytest.approx(20.0)


def test_a_line_says_it_all() -> None:
    assert line(NOW) == (
        "2/6 runs done, 1 running, 1 failed, 31/50 epochs, 12,346 images/s, 1 min 15 s left"
    )


def test_the_panel_keeps_the_bar_and_the_runs_on_lines_of_their_own() -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=100, force_terminal=False)
    console.print(Display("demo")._panel(NOW))
    lines = shown.getvalue().splitlines()
    assert "demo" in lines[0] and "2/6 done" in lines[0] and "1 failed" in lines[0]
    assert "cutmix" not in lines[1]
    assert "01234567" in lines[2] and "epoch 4.5/10" in lines[2] and "seed 3" in lines[2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
