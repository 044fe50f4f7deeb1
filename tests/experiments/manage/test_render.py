"""How a sweep is shown: what every reader must find, at any width."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from mixbench.experiments.manage.observe import Observer
from mixbench.experiments.manage.render import line, overview, panel, printed
from mixbench.experiments.manage.status import RunStatus, Status
from mixbench.experiments.store import claims, processes
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.store.workers import Worker
from tests.support import running

LABELS = {"cell": "cutmix α=0.2 · label_smoothing 0.1"}


def run(number: int, state: str, **more: object) -> RunStatus:
    key = f"{number:02d}23456789abcdef"
    return RunStatus(key, "cell", "cutmix", number, state, epochs=10, **more)  # type: ignore[arg-type]


def status(*runs: RunStatus, **more: object) -> Status:
    parts: dict[str, object] = {
        "sweep": "shown",
        "folder": "/runs/shown",
        "time": 0.0,
        "stopped": None,
        "runs": list(runs),
        "epochs": 31.0,
        "epochs_total": 50,
        "images_per_second": 12345.6,
        "seconds_left": 75.0,
        "workers": [],
        "key_length": 6,
    }
    return Status(**(parts | more))  # type: ignore[arg-type]


NOW = status(
    run(0, "done", epoch=10.0),
    run(1, "done", epoch=10.0),
    run(2, "waiting"),
    run(5, "waiting"),
    run(
        3,
        "running",
        epoch=4.5,
        stage="training",
        images_per_second=6000.0,
        seconds_left=200.0,
        worker="node7-4711-1",
        host="node7",
        job="120_7",
        attempts=1,
    ),
    run(4, "failed", attempts=3, faults=3, error="ValueError: no (3 attempts got no further)"),
)


def shown(now: Status, width: int, **options: object) -> str:
    into = io.StringIO()
    Console(file=into, width=width).print(panel(now, LABELS, **options))  # type: ignore[arg-type]
    return into.getvalue()


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


def test_the_time_left_comes_from_the_epochs_since_they_began(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("mixbench.experiments.manage.observe.time.monotonic", lambda: clock[0])
    observer = Observer(folder)
    assert observer.snapshot().seconds_left is None
    # Starting up is not working slowly.
    clock[0] += 1000.0
    assert observer.snapshot().seconds_left is None
    atomic_write(folder.plan()[2].folder.path / "result.json", dump({}))
    clock[0] += 10.0
    # 1.5 epochs in 10 s, 3 to come.
    assert observer.snapshot().seconds_left == pytest.approx(20.0)


def test_a_line_says_it_all() -> None:
    assert line(NOW) == (
        "2/6 runs done, 1 running, 1 failed, 31/50 epochs, 12,346 images/s, 1 min 15 s left"
    )
    assert "1 stale" in line(status(run(1, "stale")))


@pytest.mark.parametrize("width", [80, 160])
def test_the_panel_fits_and_names_what_one_asks_for(width: int) -> None:
    text = shown(NOW, width, notes=["a note at the end"])
    assert max(map(len, text.splitlines())) <= width
    words = re.sub(r"\s+", " ", text)
    for part in ("2/6 done", "1 running", "1 failed", "31/50 epochs", "1 min 15 s left"):
        assert part in words
    # Keys are shortened to where they differ; whatever is wrapped, is there.
    assert "032345" in text and "0323456" not in text
    for part in ("4.5/10", "6,000", "3 min 20 s", "ValueError: no", "3 attempts", "a note at"):
        assert part in words
    assert "node7-4711-1" in text and "120_7" in text
    lines = text.splitlines()
    assert "running" in lines and "failed" in lines, "each kind of run has a title of its own"


def test_the_bar_and_the_runs_are_on_lines_of_their_own() -> None:
    lines = shown(NOW, 120).splitlines()
    assert lines[0].startswith("shown") and "epochs" in lines[1] and "cutmix" not in lines[1]
    (row,) = [text for text in lines if text.startswith("032345")]
    for part in (LABELS["cell"], "4.5/10", "node7-4711-1"):
        assert part in row


def test_runs_that_failed_alike_share_one_reason() -> None:
    same = [run(n, "failed", attempts=1, error="OSError: no space") for n in range(5)]
    text = shown(status(*same, run(9, "failed", attempts=1, error="ValueError: x")), 80)
    assert text.count("OSError: no space") == 1 and text.count("ValueError: x") == 1
    for one in same:
        assert one.run_key[:6] in text
    assert text.index("092345") > text.index("ValueError")


def test_of_many_runs_a_few_are_shown_and_all_are_counted() -> None:
    many_failed = [run(n, "failed", attempts=1, error="ValueError: x") for n in range(90)]
    text = shown(status(*many_failed), 80, rows=10)
    assert "90 failed" in text and "and 81 more failed" in text
    assert len(re.findall(r"seed \d+", text)) == 9


def test_what_is_shown_elsewhere_than_on_a_terminal_is_plain_and_not_cut() -> None:
    wide = status(run(1, "failed", attempts=1, error="ValueError: " + "long " * 60))
    text = printed(panel(wide, LABELS))
    assert "\x1b" not in text and text.count("long") == 60
    assert all(row == row.rstrip() for row in text.splitlines())


def test_an_overview_is_a_line_per_sweep() -> None:
    text = printed(overview([("one", NOW), ("two", "written by another version")]))
    head, one, two = text.splitlines()
    assert head.split() == ["sweep", "runs", "done", "running", "failed", "stale", "waiting"]
    assert one.split()[:7] == ["one", "6", "2", "1", "1", "0", "2"]
    assert two.split(maxsplit=1) == ["two", "written by another version"]


def test_a_worker_elsewhere_is_not_taken_for_one_here() -> None:
    body = {"host": "another boot pid", "pid": 1, "process_start": processes.process_start(1)}
    worker = Worker("w", Path("w.json"), body, None)
    assert not worker.here and not worker.is_running_here() and worker.host == "another"
