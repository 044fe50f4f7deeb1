"""Places for workers on this machine: GPUs where there are any, cores elsewhere."""

from __future__ import annotations

import os

import pytest

from mixbench.experiments.errors import UserError
from mixbench.slurm import local
from mixbench.slurm.local import Slot


def test_one_worker_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    assert local.slots(None, 100, "cpu") == [Slot(None, 1)] * 8
    assert local.slots(3, 100, "cpu") == [Slot(None, 2)] * 3
    # As many threads each however few runs are left: sums must not come in another order.
    assert local.slots(None, 2, "cpu") == [Slot(None, 1)] * 2
    assert local.slots(20, 100, "cpu") == [Slot(None, 1)] * 20
    assert local.slots(2, 1, "cpu") == [Slot(None, 4)]


def test_one_worker_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert local.gpus() == ["2", "5"]
    monkeypatch.setattr(local, "torch_sees_gpus", lambda: True)
    assert local.slots(None, 100) == [Slot("2", 4), Slot("5", 4)]
    # More workers than GPUs share them in turn.
    assert [slot.gpu for slot in local.slots(5, 100)] == ["2", "5", "2", "5", "2"]
    assert local.slots(None, 1) == [Slot("2", 4)]
    assert local.slots(None, 100, "cpu") == [Slot(None, 1)] * 8


def test_gpus_that_torch_cannot_use_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # Named, but on a machine without them (or behind a torch that was built without CUDA).
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert local.gpus() == ["0", "1"]
    assert {slot.gpu for slot in local.slots(None, 100)} == {None}
    with pytest.raises(UserError, match="--device cuda: no GPU that torch can use"):
        local.slots(None, 100, "cuda")


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_not_used(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local.gpus() == []
    assert all(slot.gpu is None for slot in local.slots(None, 100))
    with pytest.raises(UserError, match="--device cuda: no GPU"):
        local.slots(None, 100, "cuda")


@pytest.mark.parametrize("workers", [0, -3])
def test_fewer_than_one_worker(workers: int) -> None:
    with pytest.raises(UserError, match=f"--workers: got {workers}, expected at least 1"):
        local.slots(workers, 10)


def test_cores_are_those_of_this_process() -> None:
    allowed = os.sched_getaffinity(0)
    assert 1 <= local.cores() <= len(allowed)
    one = min(allowed)
    os.sched_setaffinity(0, {one})
    try:
        assert local.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_slots_in_words() -> None:
    assert Slot("3", 4).describe() == "GPU 3"
    assert [Slot(None, count).describe() for count in (1, 2)] == ["1 CPU thread", "2 CPU threads"]
    assert Slot("0,1", 4).describe() == "GPUs 0,1"


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(local, "torch_sees_gpus", lambda: True)


def test_several_workers_share_a_gpu(four_gpus: None) -> None:
    slots = local.slots(None, 100, per_gpu=3)
    assert [slot.gpu for slot in slots] == ["0", "1", "2", "3"] * 3
    # 12 workers, 8 cores: none has less than one thread.
    assert {slot.threads for slot in slots} == {1}
    # The first to be used are different GPUs.
    assert [slot.gpu for slot in local.slots(None, 2, per_gpu=3)] == ["0", "1"]
    assert local.slots(None, 100, "cpu", per_gpu=3) == [Slot(None, 1)] * 8


def test_runs_that_take_several_gpus(four_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.slots(None, 100, devices=2) == [Slot("0,1", 4), Slot("2,3", 4)]
    # One is left over: no run fits on it.
    assert local.slots(None, 100, devices=3) == [Slot("0,1,2", 8)]
    assert local.slots(3, 100, devices=2) == [Slot("0,1", 2), Slot("2,3", 2), Slot("0,1", 2)]
    with pytest.raises(UserError, match=r"training\.devices: got 5, expected at most 4, the GPUs"):
        local.slots(None, 100, devices=5)
    with pytest.raises(UserError, match="--workers-per-gpu: got 2, expected 1 where a run takes 2"):
        local.slots(None, 100, per_gpu=2, devices=2)
    # On CPU cores the ranks of a run share them.
    assert local.slots(None, 100, "cpu", devices=4) == [Slot(None, 4)] * 2
    assert local.slots(None, 100, "cpu", devices=16) == [Slot(None, 8)]


@pytest.mark.parametrize("per_gpu", [0, -1])
def test_fewer_than_one_worker_a_gpu(per_gpu: int) -> None:
    with pytest.raises(UserError, match=f"--workers-per-gpu: got {per_gpu}, expected at least 1"):
        local.slots(None, 10, per_gpu=per_gpu)
