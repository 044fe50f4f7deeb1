"""When a run is given up: what counts as in vain, what does not, and that a reason is kept."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments.store import attempts
from mixbench.experiments.store.attempts import in_vain, record
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.states import FAULTS

OTHERS = ("done", "stopped", "diverged")

ended = st.builds(
    lambda outcome, saved: {"outcome": outcome, "saved": saved},
    st.sampled_from([*FAULTS, *OTHERS]),
    st.integers(0, 5),
)
rows = st.lists(st.one_of(ended, st.just({"outcome": "retry", "time": 1.0})), max_size=12)
steps = st.integers(1, 1000)


def oracle(given_rows: list[dict[str, Any]]) -> int:
    """From the definition: faults after the last forgiveness that got no further, and the one
    that came with the last step forward."""
    since = given_rows
    for place, row in enumerate(given_rows):
        if row["outcome"] == "retry":
            since = given_rows[place + 1 :]
    before = given_rows[: len(given_rows) - len(since)]
    furthest = max((row.get("saved", 0) for row in before), default=0)
    forward = 0
    for place, row in enumerate(since):
        if row["saved"] > max([furthest, *(one["saved"] for one in since[:place])]):
            forward = place
    return sum(row["outcome"] in FAULTS for row in since[forward:])


@given(rows)
def test_it_counts_the_faults_since_the_last_step_forward(given_rows: list[dict[str, Any]]) -> None:
    assert in_vain(given_rows) == oracle(given_rows)


@given(rows, st.integers(0, 5))
def test_what_is_nobodys_fault_changes_nothing(
    given_rows: list[dict[str, Any]], place: int
) -> None:
    """A worker that was told to stop, however often, costs no run an attempt."""
    saved = max((row.get("saved", 0) for row in given_rows[:place]), default=0)
    more = [*given_rows[:place], {"outcome": "stopped", "saved": saved}, *given_rows[place:]]
    assert in_vain(more) == in_vain(given_rows)


@given(rows)
def test_forgiven_is_forgotten(given_rows: list[dict[str, Any]]) -> None:
    assert in_vain([*given_rows, {"outcome": "retry"}]) == 0


@given(rows, st.sampled_from(FAULTS))
def test_a_fault_in_vain_counts_for_one(given_rows: list[dict[str, Any]], outcome: str) -> None:
    again = {"outcome": outcome, "saved": 0}
    assert in_vain([*given_rows, again]) == in_vain(given_rows) + 1


@given(rows, st.sampled_from(FAULTS))
def test_who_got_further_begins_anew(given_rows: list[dict[str, Any]], outcome: str) -> None:
    assert in_vain([*given_rows, {"outcome": outcome, "saved": 6}]) == 1


@given(st.lists(steps, min_size=1, max_size=50), st.sampled_from(FAULTS))
def test_one_that_is_killed_for_ever_but_gains_is_never_given_up(
    gains: list[int], outcome: str
) -> None:
    saved = 0
    found = []
    for gain in gains:
        saved += gain
        found.append({"outcome": outcome, "saved": saved})
        assert in_vain(found) == 1


def test_rows_without_progress_are_understood() -> None:
    assert in_vain([{"outcome": "died"}, {"outcome": "died", "saved": None}, {}]) == 2


@given(
    st.lists(
        st.tuples(st.sampled_from([*FAULTS, "stopped"]), st.integers(0, 3)), min_size=1, max_size=10
    ),
    st.integers(0, 3),
)
def test_a_run_is_given_up_once_its_repetitions_are_used_up(
    ends: list[tuple[str, int]], retries: int
) -> None:
    """As workers do: attempt after attempt until one of them was the last."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        noted: list[dict[str, Any]] = []
        for number, (outcome, saved) in enumerate(ends, start=1):
            noted.append({"outcome": outcome, "saved": saved})
            claim = {"number": number, "worker": "w", "progress": {"saved": saved}}
            given_up = record(folder, claim, outcome, "E: why\nand more", retries=retries)
            tries = oracle(noted)
            assert given_up == (outcome in FAULTS and tries > retries)
            assert (folder.state() == "failed") == given_up
            if not given_up:
                continue
            failure = folder.failure()
            assert failure and failure["attempt"] == number
            said = f" ({tries} attempts got no further)" if tries > 1 else ""
            assert failure["error"] == f"E: why{said}\nand more"
            break
        kept = folder.attempts()
        assert [(row["outcome"], row["saved"]) for row in kept] == ends[: len(kept)]


def test_a_row_says_who_where_when_and_why(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    claim = {
        "number": 3,
        "worker": "w",
        "host": "h",
        "pid": 1,
        "beat": 9,
        "started": 12.5,
        "job": {"id": "7", "array": None, "task": None, "restart": 0},
        "progress": {"stage": "measuring", "saved": 42},
    }
    assert not record(folder, claim, "out of memory", "RuntimeError: no", traceback="long")
    (row,) = folder.attempts()
    assert row.pop("ended") > 1e9
    assert row == {
        "attempt": 3,
        "worker": "w",
        "host": "h",
        "job": claim["job"],
        "started": 12.5,
        "outcome": "out of memory",
        "error": "RuntimeError: no",
        "saved": 42,
    }


@pytest.mark.parametrize("outcome", ["diverged", "failed"])
def test_what_would_only_happen_again_is_not_repeated(tmp_path: Path, outcome: str) -> None:
    folder = RunFolder(tmp_path)
    record(folder, {"number": 1}, "died", "signal SIGKILL")
    assert record(folder, {"number": 2}, outcome, "Diverged: nan", traceback="t", final=True)
    failure = folder.failure()
    assert failure and (failure["error"], failure["traceback"]) == ("Diverged: nan", "t")


def test_without_a_reason_the_outcome_is_the_reason(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert record(folder, {"number": 1}, "died", retries=0)
    failure = folder.failure()
    assert failure and failure["error"] == "died"


def test_two_reports_of_one_death_are_one_attempt(tmp_path: Path) -> None:
    """By the worker that took over, and by the pool that saw how it died."""
    folder = RunFolder(tmp_path)
    claim = {"number": 1, "worker": "w"}
    assert not record(folder, claim, "died", "no heartbeat", retries=1)
    assert not record(folder, claim, "died", "signal SIGKILL", retries=1)
    (row,) = folder.attempts()
    assert row["error"] == "signal SIGKILL"
    assert record(folder, {"number": 2}, "died", "signal SIGKILL", retries=1)


def test_a_report_that_comes_late_does_not_undo_forgiveness(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert record(folder, {"number": 1}, "died", "no heartbeat", retries=0)
    folder.add_attempt({"outcome": "retry", "time": 1.0})
    (tmp_path / "failure.json").unlink()
    assert not record(folder, {"number": 1}, "died", "signal SIGKILL", retries=0)
    assert folder.state() == "waiting"
    assert in_vain(folder.attempts()) == 0


def test_done_is_on_record_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in (1, 2, 3):
        record(folder, {"number": number}, "died", "E", retries=5)
    assert not record(folder, {"number": 4, "progress": {"saved": 9}}, "done")
    assert [row["outcome"] for row in folder.attempts()] == ["died", "died", "died", "done"]
    lines = (tmp_path / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["attempt"] for line in lines] == [1, 2, 3, 4]
    assert attempts.RETRIES == 2, "as the documentation says"
