"""Runs that are no longer asked for: removed by `clean --dropped`, and nothing else is."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from mixbench.experiments.cli import main
from mixbench.experiments.errors import UserError
from mixbench.experiments.manage import dropped
from mixbench.experiments.store import claims, lock
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running


@pytest.fixture
def shrunk(runs: Path) -> SweepFolder:
    """A sweep with four runs that were done, two of which are no longer asked for."""
    folder = running.planned(running.spec("one"))
    for run in folder.plan():
        done(run.folder.path)
    folder = running.planned(running.spec("one", grid={"augmentation": ["none"]}, seeds=[0, 1, 2]))
    assert len(folder.dropped()) == 2 and len(folder.plan()) == 3
    del runs
    return folder


def done(path: Path) -> None:
    """Leave a run as a worker that did it."""
    claim = claims.acquire(path, "w", claims.Watch())
    assert claim is not None
    (path / "result.json").write_text(json.dumps({"metrics": {}}))
    (path / "checkpoint.pt").write_bytes(b"x" * 5000)
    claim.release(Outcome.DONE)


def there(folder: SweepFolder) -> set[str]:
    return {path.name for path in (folder.path / "runs").iterdir()}


def test_they_are_listed_and_then_removed(
    shrunk: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, before = set(shrunk.dropped()), there(shrunk)
    # As one that was killed leaves it.
    remains = shrunk.path / "runs" / f"{dropped.ASIDE}{'0' * 16}.abc"
    remains.mkdir()
    (remains / "checkpoint.pt").write_bytes(b"x" * 700)
    assert main(["clean", "one", "--dropped"]) == 0
    said = capsys.readouterr().out
    assert "runs no longer asked for" in said and "mixbench clean one --dropped --delete" in said
    assert there(shrunk) == before | {remains.name}
    assert main(["clean", "one", "--delete"]) == 0, "without the option they stay"
    assert there(shrunk) == before | {remains.name}
    assert main(["clean", "one", "--dropped", "--delete"]) == 0
    assert re.search(r"one: 1[12]\.\d KB freed", capsys.readouterr().out)
    assert there(shrunk) == before - gone and shrunk.dropped() == []
    assert main(["clean", "one", "--dropped"]) == 0
    assert "nothing to clean" in capsys.readouterr().out
    assert not list(shrunk.path.glob("*.lock*"))


def test_what_is_held_or_still_needed_stays(
    shrunk: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    held, needed = shrunk.dropped()
    claim = claims.acquire(shrunk.path / "runs" / held, "worker", claims.Watch())
    assert claim is not None
    weights = {"transfer": {"weights": f"run:one/{needed}", "freeze": "backbone"}}
    other = running.planned(
        running.spec("two", seeds=[0], fixed=running.spec("x")["fixed"] | weights)
    )
    assert main(["clean", "one", "--dropped", "--delete"]) == 0
    said = capsys.readouterr().out
    assert f"because a worker holds it: {held}" in said
    assert f"because a run is still to start from its weights: {needed}" in said
    assert set(shrunk.dropped()) == {held, needed}
    # Elsewhere, and silent for more than three minutes: nobody holds it.
    claim.body.update(host="elsewhere", time=claim.body["time"] - 1000)
    claim.path.write_text(json.dumps(claim.body))
    shutil.rmtree(other.path)
    assert len(dropped.remove(shrunk).sizes) == 2
    assert shrunk.dropped() == []


def test_a_run_that_is_a_link_is_left(shrunk: SweepFolder, tmp_path: Path) -> None:
    key, _ = shrunk.dropped()
    run = shrunk.path / "runs" / key
    os.rename(run, tmp_path / "elsewhere")
    run.symlink_to(tmp_path / "elsewhere")
    assert dropped.remove(shrunk).kept == {key: "it is a link or a file"}
    assert (tmp_path / "elsewhere" / "result.json").is_file() and run.is_symlink()


def test_growing_and_removing_exclude_each_other(
    shrunk: SweepFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(json.dumps(running.spec("one")))
    before = there(shrunk), sorted(shrunk.path.iterdir())
    with shrunk.changing("removing runs of the sweep 'one' that are no longer asked for"):
        assert main(["sweep", str(path), "--device", "cpu"]) == 2
        assert main(["clean", "one", "--dropped", "--delete"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    for line in errors:
        assert line.startswith("mixbench: another process is removing runs of the sweep 'one'")
    with shrunk.changing("growing the sweep 'one'"):
        assert main(["clean", "one", "--dropped", "--delete"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mixbench: another process is growing the sweep 'one'")
    assert (there(shrunk), sorted(shrunk.path.iterdir())) == before


def test_a_lock_that_a_kill_left_is_taken_over(shrunk: SweepFolder) -> None:
    path = shrunk.path / "plan.lock"
    body = {"host": "elsewhere", "pid": 1, "process_start": "1", "what": "removing", "time": 0.0}
    path.write_text(json.dumps({**body, "time": 1e12}))
    with pytest.raises(UserError, match="another process is removing: process 1 on elsewhere"):
        dropped.remove(shrunk)
    path.write_text(json.dumps(body))
    assert len(dropped.remove(shrunk).sizes) == 2 and not path.exists()


def test_a_lock_that_is_renewed_is_not(tmp_path: Path) -> None:
    with lock.exclusive(tmp_path / "it.lock", "working", lease=1.0) as held:
        held.body["time"] -= 1000
        held.path.write_text(json.dumps(held.body))
        held.renew()
        refused = pytest.raises(UserError, match="another process is working")
        with refused, lock.exclusive(tmp_path / "it.lock", "working", lease=1.0):
            pass
    assert list(tmp_path.iterdir()) == []
