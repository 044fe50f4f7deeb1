"""Checkpoints: whole or not there, and what can't be read is said and not used."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest
import torch

from experiments import checkpoint


@pytest.fixture
def state() -> dict[str, object]:
    return {
        "epochs": 3,
        "network": {"weight": torch.arange(600.0).view(20, 30)},
        "generators": {"order": torch.Generator().manual_seed(1).get_state()},
        "history": {"best_accuracy": 0.1 + 0.2, "length": 7},
    }


def test_it_comes_back_as_it_was(tmp_path: Path, state: dict[str, object]) -> None:
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path) is None
    checkpoint.save(path, state)
    found = checkpoint.load(path)
    assert found is not None
    assert torch.equal(found["network"]["weight"], state["network"]["weight"])  # type: ignore[index]
    assert torch.equal(found["generators"]["order"], state["generators"]["order"])  # type: ignore[index]
    assert (found["epochs"], found["history"]) == (3, state["history"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_torn_file_is_not_used(
    tmp_path: Path, state: dict[str, object], kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(path) is None
    assert "starting over" in caplog.text and str(path) in caplog.text


@pytest.mark.parametrize("content", [b"not a checkpoint", b"PK\x03\x04" + bytes(100), bytes(500)])
def test_another_kind_of_file_is_not_used(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    assert checkpoint.load(path) is None
    assert "starting over" in caplog.text


def test_damage_is_never_taken_for_a_state(tmp_path: Path, state: dict[str, object]) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state)
    content = path.read_bytes()
    where = content.index(torch.arange(600.0)[1:9].numpy().tobytes())
    draw = random.Random(0)
    refused = 0
    for place in [where, where + 1000, *(draw.randrange(len(content)) for _ in range(200))]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(damaged))
        found = checkpoint.load(path)
        refused += found is None
        # The flip may hit padding; then everything must be as it was.
        if found is not None:
            assert torch.equal(found["network"]["weight"], state["network"]["weight"]), place  # type: ignore[index]
            assert found["epochs"] == 3 and found["history"] == state["history"], place
        if place in (where, where + 1000):
            assert found is None, "a weight changed and nobody noticed"
    assert refused > 50


def test_another_version_is_not_used(
    tmp_path: Path, state: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({**state, "version": 99}, path)
    assert checkpoint.load(path) is None
    assert "another version" in caplog.text
    torch.save([1, 2], path)
    assert checkpoint.load(path) is None


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "owned"), "w")

    path = tmp_path / "checkpoint.pt"
    torch.save({"version": checkpoint.VERSION, "epochs": Evil()}, path)
    assert checkpoint.load(path) is None
    assert not (tmp_path / "owned").exists()
