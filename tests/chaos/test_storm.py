"""Forty kills, at every place that matters: `make chaos` has the thousand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.chaos import __main__ as chaos
from tests.chaos import storm
from tests.chaos.nursery import Nursery
from tests.chaos.places import PLACES

KILLS = 40


def test_a_sweep_survives_every_kill(tmp_path: Path) -> None:
    total, seeds = chaos.storms(tmp_path, KILLS)
    assert total.wrong == []
    assert sum(total.kills.values()) >= KILLS
    missed = [place for place in [*PLACES, storm.ANY_MOMENT] if not total.kills[place]]
    assert not missed, "a place where nobody was killed proves nothing"
    assert set(total.attempts) == {"done", "died"}
    assert total.attempts["done"] == total.runs == 6 * len(seeds)
    killed = total.attempts["died"] + total.idle_kills + total.late_kills
    assert killed == sum(total.kills.values())
    assert (total.lost, total.double, total.at_once, total.torn, total.different) == (0,) * 5
    found = chaos.summary(total, seeds)
    assert json.loads(json.dumps(found)) == found
    assert "| lost results | 0 |" in chaos.as_markdown(found)


# The judge of a storm finds what is wrong.


@pytest.fixture(scope="module")
def peaceful(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    root = tmp_path_factory.mktemp("peaceful")
    storm.calm(nursery, root)
    return SweepFolder(root / "storm")


def rewrite(run: RunFolder) -> None:
    path = run.path / "result.json"
    content = path.read_text()
    path.unlink()
    path.write_text(content)


def shorten(name: str) -> Callable[[RunFolder], None]:
    def cut(run: RunFolder) -> None:
        content = (run.path / name).read_bytes()
        (run.path / name).write_bytes(content[:-20])

    return cut


def do_twice(run: RunFolder) -> None:
    run.add_attempt({**run.attempts()[0], "attempt": 2})


def claim_without_an_attempt(run: RunFolder) -> None:
    claims = run.path / "claims"
    body = json.loads((claims / "000001.json").read_text())
    for number in (1, 2):
        cut_off = {name: value for name, value in body.items() if name != "released"}
        (claims / f"{number:06d}.json").write_text(json.dumps({**cut_off, "worker": "killed"}))
    (claims / "000003.json").write_text(json.dumps(body))
    (run.path / "attempts.jsonl").write_text("")
    run.add_attempt({"attempt": 1, "outcome": "died"})
    run.add_attempt({"attempt": 3, "outcome": "done"})


def skip_a_number(run: RunFolder) -> None:
    claims = run.path / "claims"
    (claims / "000001.json").rename(claims / "000002.json")


def fail_too(run: RunFolder) -> None:
    run.fail("it was done, and failed", "", 1)


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (rewrite, "its result was written twice"),
        (lambda run: (run.path / "result.json").unlink(), "no result"),
        (shorten("metrics.jsonl"), "torn: metrics.jsonl"),
        (shorten("predictions.npz"), "torn: predictions.npz"),
        (shorten("checkpoint.pt"), "torn: checkpoint.pt"),
        (do_twice, "done 2 times"),
        (claim_without_an_attempt, "claim 2 of killed has no attempt on record"),
        (skip_a_number, "its claims are numbered [2]"),
        (fail_too, "a failure or a claim beside the result"),
    ],
)
def test_the_judge_of_a_run(
    peaceful: SweepFolder, tmp_path: Path, tamper: Callable[[RunFolder], Any], complaint: str
) -> None:
    source = peaceful.plan()[0].folder
    run = RunFolder(tmp_path / source.run_key)
    shutil.copytree(source.path, run.path)
    result = (run.path / "result.json").stat()
    seen = {run.run_key: (result.st_ino, result.st_mtime_ns)}
    fine, found = storm.Outcome(), storm.Outcome()
    storm.judge_run(run, {"killed"}, seen, fine)
    assert fine.wrong == []
    tamper(run)
    storm.judge_run(run, {"killed"}, seen, found)
    assert any(complaint in wrong for wrong in found.wrong), found.wrong


def test_the_judge_of_claims() -> None:
    def row(at: int, worker: str, claim: int) -> dict[str, Any]:
        return {"at": at, "worker": worker, "run": "r", "claim": claim, "what": "works"}

    fine = [row(1, "a", 1), row(2, "a", 1), row(3, "b", 2), row(4, "c", 3)]
    assert list(storm.held_at_once(fine)) == []
    assert list(storm.held_at_once([*fine, row(5, "a", 1)])) == ["r: held at once by c and a"]
    assert list(storm.held_at_once([*fine, row(2, "b", 1)]))
