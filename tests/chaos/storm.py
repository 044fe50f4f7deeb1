"""A sweep whose workers are killed at random moments until it is done, and what must hold then."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import signal
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mixbench.experiments.store import checkpoint
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.chaos.nursery import Child, Nursery, Setup
from tests.chaos.places import PLACES
from tests.support import running

WORKERS = 3
ANY_MOMENT = "any moment"
LONGEST_LIFE = 0.4
SPEC: dict[str, Any] = {
    "fixed": {
        "dataset": {"name": "digits", "train_size": 300},
        "model": {"name": "small_cnn", "width": 4},
        "training": {"epochs": 3, "batch_size": 64, "crop_padding": 1},
        "evaluation": {"occlusion": {"images": 100, "fractions": [0.5]}},
    },
    "grid": {"augmentation": [{"name": "none"}, {"name": "cutmix", "per_sample": True}]},
    "seeds": [0, 1, 2],
}


@dataclass
class Outcome:
    """What came of a storm. `wrong`: every promise that was broken, in words.

    Of the kills, `idle_kills` hit a worker without a run, `late_kills` one whose run was done; all
    others are on record as attempts that died.
    """

    kills: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    idle_kills: int = 0
    late_kills: int = 0
    runs: int = 0
    lost: int = 0
    double: int = 0
    at_once: int = 0
    torn: int = 0
    different: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


@dataclass
class _Life:
    """A worker and its end: at a place (it sees to that itself), or at a time."""

    child: Child
    name: str
    place: str
    dies_at: float | None


def planned(root: Path) -> SweepFolder:
    """The sweep of a storm, not begun, in a root of its own."""
    before = os.environ.get("MIXBENCH_RUNS")
    os.environ["MIXBENCH_RUNS"] = str(root)
    try:
        return running.planned({"name": "storm", **SPEC})
    finally:
        if before is None:
            del os.environ["MIXBENCH_RUNS"]
        else:
            os.environ["MIXBENCH_RUNS"] = before


def calm(nursery: Nursery, root: Path) -> dict[str, Any]:
    """What the sweep comes to when one worker does it alone, without haste or kills."""
    folder = planned(root)
    child = nursery.start(*_options(folder, "alone"), setup=[], output=root / "alone.log")
    assert child.wait(180) == 0, child.said()
    return running.outcome(folder)


class Deck:
    """Where worker after worker is to die: all places equally often, and any moment between."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._cards: list[str] = []

    def draw(self) -> tuple[str, int]:
        """A place, and at which time that the worker gets there."""
        if not self._cards:
            self._cards = [*PLACES, *[ANY_MOMENT] * (len(PLACES) // 2)]
            self._draw.shuffle(self._cards)
        place = self._cards.pop()
        hits = PLACES[place].hits if place in PLACES else 1
        return place, self._draw.randint(1, hits)

    def put_first(self, places: list[str]) -> None:
        """Draw these next, some more than once: who is to die may never get there."""
        self._cards += places * 3

    def put_back(self, place: str) -> None:
        """The worker never got there: it is somebody else's turn."""
        self._cards.insert(self._draw.randint(0, len(self._cards)), place)


def storm(nursery: Nursery, root: Path, seed: int, deck: Deck, expected: dict[str, Any]) -> Outcome:
    """Do the sweep in `root` with workers that are killed where the deck says, to its end.

    expected: what the sweep comes to when it is left `calm`.
    """
    began = time.monotonic()
    folder = planned(root)
    events = root / "events.jsonl"
    draw = random.Random(f"times {seed}")
    seen: dict[str, tuple[int, int]] = {}
    outcome = Outcome(runs=len(folder.plan()))
    lives: list[_Life] = []
    dead: list[_Life] = []
    for number in itertools.count():
        assert number < 10_000, "the sweep gets nowhere"
        place, hit = deck.draw()
        name = f"storm{seed}-{number}"
        setup: Setup = [
            ("tests.chaos.places:eager", {}),
            ("tests.chaos.places:tell", {"events": str(events), "name": name}),
        ]
        dies_at = None
        if place == ANY_MOMENT:
            dies_at = time.monotonic() + draw.uniform(0.0, LONGEST_LIFE)
        else:
            where = {"events": str(events), "name": name, "place": place, "hit": hit}
            setup.append(("tests.chaos.places:die_at", where))
        child = nursery.start(*_options(folder, name), setup=setup, output=root / f"{name}.log")
        lives.append(_Life(child, name, place, dies_at))
        while len(lives) == WORKERS:
            _look(folder, seen, outcome)
            for life in list(lives):
                if life.dies_at is not None and time.monotonic() >= life.dies_at:
                    life.dies_at = None
                    life.child.send(signal.SIGKILL)
                if life.child.status is not None:
                    lives.remove(life)
                    dead.append(life)
            time.sleep(0.005)
        if dead and dead[-1].child.status == 0:
            break
    for life in lives:
        life.child.wait(300)
    for life in [*dead, *lives]:
        if life.child.status == 0:
            deck.put_back(life.place)
    _look(folder, seen, outcome)
    _judge(folder, events, [*dead, *lives], seen, expected, outcome)
    outcome.wrong = [f"storm {seed}: {complaint}" for complaint in outcome.wrong]
    outcome.seconds = time.monotonic() - began
    return outcome


def _options(folder: SweepFolder, name: str) -> list[str]:
    # No death may be held against a run here: there are more of them than any run deserves.
    return [str(folder.path), "--name", name, "--retries", "1000000"]


def _look(folder: SweepFolder, seen: dict[str, tuple[int, int]], outcome: Outcome) -> None:
    """What a reader sees at this moment is whole; which result it is that came first."""
    for planned_run in folder.plan():
        run = planned_run.folder
        if run.run_key in seen:
            continue
        path = run.path / "result.json"
        claim = run.last_claim()
        if claim is not None and "worker" not in claim:
            outcome.torn += 1
            outcome.wrong.append(f"{run.run_key}: a claim that was not whole")
        if path.exists():
            found = path.stat()
            seen[run.run_key] = found.st_ino, found.st_mtime_ns
            if run.result() is None:
                outcome.torn += 1
                outcome.wrong.append(f"{run.run_key}: a result that was not whole")


def _judge(
    folder: SweepFolder,
    events: Path,
    lives: list[_Life],
    seen: dict[str, tuple[int, int]],
    expected: dict[str, Any],
    outcome: Outcome,
) -> None:
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    places = {
        row["worker"]: row["what"].removeprefix("killed: ")
        for row in rows
        if row["what"].startswith("killed: ")
    }
    killed = set()
    for life in lives:
        if life.child.status == -signal.SIGKILL:
            killed.add(life.name)
            outcome.kills[places.get(life.name, ANY_MOMENT)] += 1
        elif life.child.status != 0:
            outcome.wrong.append(f"{life.name} ended with {life.child.status}: {life.child.said()}")
    held_twice = list(held_at_once(rows))
    outcome.at_once = len(held_twice)
    outcome.wrong += held_twice
    for planned_run in folder.plan():
        judge_run(planned_run.folder, killed, seen, outcome)
    if not outcome.lost:
        found = running.outcome(folder)
        for key, whole in expected.items():
            if found[key] != whole:
                outcome.different += 1
                outcome.wrong.append(f"{key}: not what it comes to when left alone")
    holding = {
        claim["worker"]
        for planned_run in folder.plan()
        for _, claim in _claims(planned_run.folder)
        if "released" not in claim
    }
    outcome.idle_kills = len(killed - holding)
    if outcome.attempts["died"] + outcome.late_kills + outcome.idle_kills != len(killed):
        outcome.wrong.append(
            f"{len(killed)} kills, but {outcome.attempts['died']} attempts that died, "
            f"{outcome.late_kills} after the result and {outcome.idle_kills} without a run"
        )


def judge_run(
    run: RunFolder, killed: set[str], seen: dict[str, tuple[int, int]], outcome: Outcome
) -> None:
    """Add what is wrong with a run of a finished storm to `outcome`.

    killed: the workers that were. seen: run key -> inode and time of the result that came first.
    """

    def wrong(what: str) -> None:
        outcome.wrong.append(f"{run.run_key}: {what}")

    path = run.path / "result.json"
    if run.result() is None:
        outcome.lost += 1
        wrong("no result")
        return
    if (path.stat().st_ino, path.stat().st_mtime_ns) != seen[run.run_key]:
        outcome.double += 1
        wrong("its result was written twice")
    claimed = _claims(run)
    if [number for number, _ in claimed] != list(range(1, len(claimed) + 1)):
        wrong(f"its claims are numbered {[number for number, _ in claimed]}")
    attempts = run.attempts()
    outcome.attempts.update(row["outcome"] for row in attempts)
    by_number = {row["attempt"]: row for row in attempts}
    done = [row["attempt"] for row in attempts if row["outcome"] == "done"]
    if len(done) != 1:
        outcome.double += len(done) > 1
        wrong(f"done {len(done)} times, by its attempts: {done}")
    for number, claim in claimed:
        row = by_number.get(number)
        if claim.get("released") == "nothing to do":
            if row is not None:
                wrong(f"claim {number} had nothing to do and came to {row['outcome']}")
        elif "released" in claim:
            if row is None or row["outcome"] != claim["released"]:
                wrong(f"claim {number} was released as {claim['released']}, its attempt: {row}")
        elif claim["worker"] not in killed:
            wrong(f"claim {number} is held by {claim['worker']}, who was not killed")
        elif row is None:
            # Whoever takes a run that turns out to be done just leaves it.
            if not done or number < max(done):
                wrong(f"claim {number} of {claim['worker']} has no attempt on record")
            else:
                outcome.late_kills += 1
        elif row["outcome"] == "done":
            outcome.late_kills += 1
        elif row["outcome"] != "died":
            wrong(f"claim {number} was cut off, its attempt: {row['outcome']}")
    for what in _torn(run):
        outcome.torn += 1
        wrong(f"torn: {what}")


def _claims(run: RunFolder) -> list[tuple[int, dict[str, Any]]]:
    files = sorted((run.path / "claims").glob("[0-9]*.json"))
    return [(int(file.stem), json.loads(file.read_text())) for file in files]


def _torn(run: RunFolder) -> Iterator[str]:
    """The files of a finished run that are not whole, and what is there but counts for nothing."""
    for name in ("config.json", "result.json"):
        if not isinstance(json.loads((run.path / name).read_text()), dict):
            yield name
    lines = (run.path / "metrics.jsonl").read_text().split("\n")
    if lines.pop() or [json.loads(line)["epoch"] for line in lines] != [1, 2, 3]:
        yield "metrics.jsonl"
    content = io.BytesIO((run.path / "predictions.npz").read_bytes())
    if not zipfile.is_zipfile(content) or zipfile.ZipFile(content).testzip():
        yield "predictions.npz"
    Image.open(run.path / "mixed.png").load()
    if next(checkpoint.load(run.path), None) is None:
        yield "checkpoint.pt"
    if run.failure() is not None or run.claim() is not None or run.state() != "done":
        yield "a failure or a claim beside the result"


def held_at_once(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Heartbeats of a run's earlier holder after one of a later: claims never go back."""
    latest: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["at"]):
        if row["run"] is None:
            continue
        before = latest.get(row["run"])
        if before is not None and row["claim"] < before["claim"]:
            yield f"{row['run']}: held at once by {before['worker']} and {row['worker']}"
        if before and row["claim"] == before["claim"] and row["worker"] != before["worker"]:
            yield f"{row['run']}: claim {row['claim']} is of {before['worker']} and {row['worker']}"
        latest[row["run"]] = row
