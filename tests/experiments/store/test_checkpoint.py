"""Checkpoints: whole or not there, and what can't be read is said and the one before it used."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbench.experiments.store import checkpoint
from mixbench.experiments.store.checkpoint import NEWEST, PREVIOUS
from tests.support import disks


def saving(folder: Path, number: int, said: Any) -> None:
    """Save without a pause, and say what was saved."""
    while True:
        number += 1
        checkpoint.save(folder, {"epoch": number, "weight": torch.full((20000,), number)})
        said.value = number


def writer(folder: Path, number: int) -> tuple[Any, Any]:
    """A process that saves without a pause, from `number`; and the number that it saved last."""
    # A fork has torch already.
    context = multiprocessing.get_context("fork")
    said = context.Value("q", 0, lock=False)
    process = context.Process(target=saving, args=(folder, number, said), daemon=True)
    process.start()
    limit = time.monotonic() + 300
    while not said.value and process.is_alive() and time.monotonic() < limit:
        time.sleep(0.001)
    return process, said


def state(epochs: int = 3) -> dict[str, Any]:
    return {
        "epochs": epochs,
        "network": {"weight": torch.arange(600.0).view(20, 30) + epochs},
        "generators": {"order": torch.Generator().manual_seed(1).get_state()},
        "history": {"best_accuracy": 0.1 + 0.2, "length": 7},
    }


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return (
        torch.equal(found["network"]["weight"], wanted["network"]["weight"])
        and torch.equal(found["generators"]["order"], wanted["generators"]["order"])
        and (found["epochs"], found["history"]) == (wanted["epochs"], wanted["history"])
    )


def epochs(folder: Path) -> list[int]:
    return [found["epochs"] for found in checkpoint.load(folder)]


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    assert list(checkpoint.load(tmp_path)) == []
    checkpoint.save(tmp_path, state())
    (found,) = checkpoint.load(tmp_path)
    assert same(found, state())
    assert names(tmp_path) == {NEWEST}


def test_the_newest_comes_first_and_one_is_kept_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1, 5):
        checkpoint.save(tmp_path, state(number))
        assert epochs(tmp_path) == [number, number - 1][:number]
    assert names(tmp_path) == {NEWEST, PREVIOUS}
    caplog.clear()
    newest = next(checkpoint.load(tmp_path))
    assert same(newest, state(4)) and not caplog.text
    checkpoint.drop_previous(tmp_path)
    assert names(tmp_path) == {NEWEST}
    checkpoint.drop_previous(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_from_a_torn_one_it_goes_back_to_the_one_before(
    tmp_path: Path, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(tmp_path, state(1))
    checkpoint.save(tmp_path, state(2))
    path = tmp_path / NEWEST
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with caplog.at_level(logging.WARNING):
        (found,) = checkpoint.load(tmp_path)
    assert same(found, state(1))
    assert f"{path} is not readable" in caplog.text
    assert "going back to the checkpoint before it" in caplog.text
    # And the next save does not put the torn one in the good one's place for long.
    checkpoint.save(tmp_path, state(3))
    assert epochs(tmp_path)[0] == 3


@pytest.mark.parametrize("content", [b"not a checkpoint", b"PK\x03\x04" + bytes(100), bytes(500)])
def test_with_none_that_is_readable_there_is_none(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (NEWEST, PREVIOUS):
        (tmp_path / name).write_bytes(content)
    assert list(checkpoint.load(tmp_path)) == []
    for name in (NEWEST, PREVIOUS):
        assert f"{name} is not readable" in caplog.text


def test_a_kill_between_the_renames_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1))
    checkpoint.save(tmp_path, state(2))
    os.replace(tmp_path / NEWEST, tmp_path / PREVIOUS)
    assert epochs(tmp_path) == [2]
    checkpoint.save(tmp_path, state(3))
    assert epochs(tmp_path) == [3, 2]


def test_damage_is_never_taken_for_a_state(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(0))
    path = tmp_path / NEWEST
    content = path.read_bytes()
    where = content.index(torch.arange(600.0)[1:9].numpy().tobytes())
    draw = random.Random(0)
    refused = 0
    for place in [where, where + 1000, *(draw.randrange(len(content)) for _ in range(200))]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(damaged))
        found = list(checkpoint.load(tmp_path))
        refused += not found
        # The flip may hit padding; then everything must be as it was.
        assert all(same(one, state(0)) for one in found), place
        if place in (where, where + 1000):
            assert not found, "a weight changed and nobody noticed"
    assert refused > 50


def test_another_version_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint.save(tmp_path, state(1))
    os.replace(tmp_path / NEWEST, tmp_path / PREVIOUS)
    for content in ({**state(2), "version": 99}, state(2), [1, 2]):
        torch.save(content, tmp_path / NEWEST)
        assert epochs(tmp_path) == [1]
    assert "another version" in caplog.text


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "owned"), "w")

    torch.save({"version": checkpoint.VERSION, "epochs": Evil()}, tmp_path / NEWEST)
    assert list(checkpoint.load(tmp_path)) == []
    assert not (tmp_path / "owned").exists()


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    with disks.mounted(tmp_path / "disk", "128k") as disk:
        checkpoint.save(disk, state(1))
        checkpoint.save(disk, state(2))
        with pytest.raises(OSError, match="No space left") as caught:
            checkpoint.save(disk, {"weight": torch.rand(100_000)})
        assert caught.value.errno == errno.ENOSPC
        assert epochs(disk) == [2, 1] and names(disk) == {NEWEST, PREVIOUS}


def test_at_every_moment_a_whole_one_is_there(tmp_path: Path) -> None:
    """One writes without a pause, is killed at random, and what it said it had saved is there."""
    draw = random.Random(3)
    last = 0
    for _ in range(20):
        process, said = writer(tmp_path, last)
        limit = time.monotonic() + draw.uniform(0.0, 0.05)
        while time.monotonic() < limit:
            # Between two looks the names may move on: a reader beside a writer can miss one.
            for one in checkpoint.load(tmp_path):
                assert (one["weight"] == one["epoch"]).all()
        process.kill()
        process.join(300)
        first, *rest = checkpoint.load(tmp_path)
        assert (first["weight"] == first["epoch"]).all()
        # One that is aside when the kill comes between the two renames is not used.
        assert max(last, said.value - 1) <= first["epoch"] <= said.value + 1
        assert all(one["epoch"] < first["epoch"] for one in rest)
        last = first["epoch"]


def test_two_writers_do_not_fail_each_other(tmp_path: Path) -> None:
    """One was overtaken and has not noticed yet; the run belongs to the other one."""
    processes = [writer(tmp_path, start)[0] for start in (0, 1_000_000)]
    time.sleep(0.7)
    alive = [process.is_alive() for process in processes]
    for process in processes:
        process.kill()
        process.join(300)
    assert alive == [True, True]
    assert list(checkpoint.load(tmp_path))
