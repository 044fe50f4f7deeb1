"""Real workers that train one run with a second process: the command, kills, hangs, failures."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mixbench.experiments.config import resolve, schema
from mixbench.experiments.data.load import load_once
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.claims import Claim
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import launch_ranks
from mixbench.experiments.worker.exit_status import STOPPED
from mixbench.experiments.worker.worker import Worker
from mixbench.slurm.local import Slot
from mixbench.slurm.pool import Pool
from tests.support import running

TRAINING = {"epochs": 16, "batch_size": 32, "crop_padding": 1, "devices": 2}


def spec(name: str, **training: Any) -> dict[str, Any]:
    return {
        "name": name,
        "fixed": {
            "dataset": {"name": "digits", "train_size": 300},
            "model": {"name": "small_cnn", "width": 4},
            "training": {**TRAINING, **training},
            # 359 test images: eight batches, the last of 9.
            "evaluation": {"batch_size": 50, "occlusion": {"images": 120, "fractions": [0.5]}},
        },
        "grid": {"augmentation": [{"name": "cutmix", "per_sample": True}]},
        "seeds": [0],
    }


def only_run(folder: SweepFolder) -> RunFolder:
    return folder.plan()[0].folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """Done by one worker in this process and one that assists."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(tmp_path_factory.mktemp("undisturbed")))
        folder = running.planned(spec("undisturbed"))
    assert running.work(folder, "tests") == 1
    return folder


def saved(folder: RunFolder) -> int:
    claim = folder.last_claim() or {}
    held = claim if "released" not in claim else {}
    return int((held.get("progress") or {}).get("saved") or 0)


def assistants(leader: int) -> list[int]:
    """The processes of this one that assist it."""
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"mixbench.experiments.worker.rank_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_what_two_leave_behind(undisturbed: SweepFolder) -> None:
    folder = only_run(undisturbed)
    assert folder.state() == "done"
    assert {entry.name for entry in folder.path.iterdir()} == {
        "attempts.jsonl",
        "checkpoint.pt",
        "claims",
        "config.json",
        "log.txt",
        "metrics.jsonl",
        "mixed.png",
        "predictions.npz",
        "result.json",
    }
    rows = folder.metrics()
    assert [row["epoch"] for row in rows] == list(range(1, 17))
    # 270 images: eight batches of 32 and one of 14.
    assert rows[-1]["step"] == 16 * 9
    result = folder.result()
    assert result is not None and result["metrics"]["test/accuracy"] > 0.7
    predictions = np.load(folder.path / "predictions.npz")
    assert predictions["logits"].shape == (359, 10)
    # The group is taken apart, and the threads are this process's own again.
    assert not torch.distributed.is_initialized()


def test_killed_and_continued_is_the_same(undisturbed: SweepFolder, runs: Path) -> None:
    folder = running.planned(spec("killed"))
    run_folder = only_run(folder)
    random = np.random.RandomState(7)

    def further(by: int) -> None:
        there = saved(run_folder)
        limit = there + by + int(random.randint(15))
        running.wait_until(lambda: saved(run_folder) > limit, "another few checkpoints")

    worker = running.start_worker(folder, "first")
    try:
        # The one that assists: its end is on record with its reason, and the worker tries again.
        further(5)
        before = saved(run_folder)
        assistant = assistants(worker.pid)[0]
        os.kill(assistant, signal.SIGKILL)
        running.wait_until(run_folder.attempts, "the attempt's end")
        (row,) = run_folder.attempts()
        assert row["outcome"] == "failed" and row["saved"] >= before
        assert row["error"] == "RankFailed: rank 1: signal SIGKILL (lack of memory?)"
        running.wait_until(lambda: saved(run_folder) > row["saved"], "the second attempt")

        # The leader, with SIGKILL: nobody stays behind.
        further(5)
        (assistant,) = assistants(worker.pid)
        worker.kill()
        worker.wait()
        running.wait_until(lambda: is_gone(assistant), "the end of the one that assists")

        # The leader, with SIGTERM.
        worker = running.start_worker(folder, "second")
        running.wait_until(lambda: saved(run_folder) > row["saved"] + 5, "the third attempt")
        further(3)
        (assistant,) = assistants(worker.pid)
        worker.terminate()
        assert worker.wait(300) == STOPPED
        assert is_gone(assistant)
        assert run_folder.attempts()[-1]["outcome"] == "stopped"
        assert run_folder.state() == "waiting"
    finally:
        worker.kill()
        worker.wait()
    assert running.work(folder, "last") == 1
    outcomes = [row["outcome"] for row in run_folder.attempts()]
    assert outcomes == ["failed", "died", "stopped", "done"]
    mine, reference = running.outcome(folder), running.outcome(undisturbed)
    assert list(mine) == list(reference)
    assert mine == reference


def test_a_rank_that_hangs_costs_the_attempt(runs: Path) -> None:
    folder = running.planned(spec("hung", epochs=4000))
    run_folder = only_run(folder)
    pool = Pool(folder)
    pool.start(Slot(None, 2))
    try:
        leader = pool.running[0].popen.pid

        def trains() -> bool:
            claim = run_folder.claim() or {}
            return bool((claim.get("progress") or {}).get("step"))

        running.wait_until(trains, "the training")
        (assistant,) = assistants(leader)
        os.kill(assistant, signal.SIGSTOP)
        pool.hang_seconds = 2.0
        limit = time.monotonic() + 300
        while not run_folder.attempts():
            pool.poll()
            assert time.monotonic() < limit
            time.sleep(0.1)
        (row,) = run_folder.attempts()
        assert (row["outcome"], row["error"]) == ("hung", "no heartbeat for 2 s: killed")
        assert is_gone(leader)
        running.wait_until(lambda: is_gone(assistant), "the end of the one that hung")
    finally:
        pool.stop(10)


def test_a_rank_that_raises_says_so(runs: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("a", "b"):
        (images / name).mkdir(parents=True)
        for number in range(20):
            shade = np.full((8, 8, 3), number, np.uint8)
            Image.fromarray(shade).save(images / name / f"{number}.png")
    written = spec("raises", epochs=2, batch_size=8)
    written["fixed"]["dataset"] = {"name": f"imagefolder:{images}", "image_size": 8}
    folder = running.planned(written)
    # The leader has the images in memory; the other one finds none.
    config = resolve.parse(folder.plan()[0].config)
    load_once(config.dataset, "cpu", config.training.random_crops)
    shutil.rmtree(images / "b")
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        # What the plan says must still be what is planned: only reading the images is to fail.
        patch.setattr(schema.RunConfig, "run_key", folder.plan()[0].run_key)
        with running.one_thread():
            assert Worker(folder, "cpu", "tests", retries=1).work() == 0
    run_folder = only_run(folder)
    rows = run_folder.attempts()
    assert [row["outcome"] for row in rows] == ["failed"] * 2
    assert rows[0]["error"].startswith(
        "RankFailed: rank 1: mixbench.experiments.errors.UserError: imagefol"
    )
    assert "(2 attempts got no further)" in (run_folder.failure() or {})["error"]
    # Nobody waited for one that would not come.
    assert time.monotonic() - started < launch_ranks.START_SECONDS


def test_the_command(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "name: x\n"
        "fixed:\n"
        "  dataset: {name: digits, train_size: 300}\n"
        "  model: {name: small_cnn, width: 4}\n"
        "  training: {epochs: 2, batch_size: 64}\n"
        "  evaluation: {occlusion: {images: 50, fractions: [0.5]}}\n"
    )
    refused = running.mixbench_here(
        "sweep", str(path), "--set", "training.devices=2", "--set", "training.batch_size=3"
    )
    assert refused.returncode == 2 and "batch_size: got 3, expected at least 4" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1 and not runs.exists()
    done = running.mixbench(
        "sweep", str(path), "--set", "training.devices=2", "--no-track", "--no-report"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 runs done" in done.stdout
    folder = only_run(SweepFolder(runs / "x"))
    log = (folder.path / "log.txt").read_text()
    assert "epoch 2/2" in log and "Traceback" not in log and "WARNING" not in log


def test_devices_are_part_of_the_run() -> None:
    raw = {"dataset": {"name": "digits"}}
    keys = [
        resolve.parse({**raw, "training": training}).run_key
        for training in ({}, {"devices": 1}, {"devices": 2}, {"devices": 3})
    ]
    assert keys[0] == keys[1] and len(set(keys)) == 3
    with pytest.raises(UserError, match=r"training\.devices: got 0, expected a number of at"):
        resolve.parse({**raw, "training": {"devices": 0}})


def test_more_ranks_than_devices(undisturbed: SweepFolder) -> None:
    if torch.cuda.device_count() > 4095:
        pytest.skip("room for all")
    claim = Claim(undisturbed.path, 1, {"beat": 0})
    with (
        pytest.raises(UserError, match=r"training.devices: got 4096, expected at most \d+, the"),
        launch_ranks.group(undisturbed, "0", 4096, torch.device("cuda"), claim),
    ):
        pass
