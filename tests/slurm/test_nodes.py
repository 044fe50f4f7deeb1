"""Runs whose ranks are on several nodes of a SLURM job."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mixbench
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import launch_ranks
from mixbench.slurm import node, profile, queue
from mixbench.slurm.local import Slot
from tests.slurm.test_on_slurm import send, wait_for, wait_for_training, went_on_from
from tests.support import running, slurm_cluster
from tests.support.slurm_cluster import Cluster


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    """A SLURM of two nodes, both on this machine."""
    reason = slurm_cluster.missing()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with slurm_cluster.running(folder, nodes=2) as there:
            yield there
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm(two_nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The same, without jobs, which SLURM's programs find, and a root for sweeps."""
    monkeypatch.setenv("SLURM_CONF", str(two_nodes.configuration))
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "all runs"))
    monkeypatch.chdir(tmp_path)
    yield two_nodes
    two_nodes.empty()


def sweep_of(name: str, epochs: int) -> SweepFolder:
    """A sweep of one run, for two ranks."""
    spec = running.spec(name, seeds=[0], grid={"augmentation": [{"name": "cutmix"}]})
    spec["fixed"]["training"] = {"epochs": epochs, "batch_size": 64, "devices": 2}
    return running.planned(spec)


def ranks_of(sweep: SweepFolder) -> dict[str, tuple[str, int]]:
    """The ranks of the sweep's run that there are: number -> SLURM's name of the node, process."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            environment = (process / "environ").read_text().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if str(sweep.path) not in words or not Path(words[0]).name.startswith("python"):
            continue
        rank = None
        if "mixbench.experiments.worker" in words:
            rank = "0"
        elif "mixbench.experiments.worker.rank_main" in words:
            rank = words[words.index("--rank") + 1]
        named = [row for row in environment if row.startswith("SLURMD_NODENAME=")]
        if rank is not None and named:
            found[rank] = named[0].partition("=")[2], int(process.name)
    return found


def test_a_run_over_two_nodes(slurm: Cluster, tmp_path: Path) -> None:
    sweep = sweep_of("spread", epochs=80)
    (planned,) = sweep.plan()
    assert send(sweep, nodes=2)[-1].endswith("1 task of 1 worker, profile tests")
    wait_for_training(sweep)
    there = ranks_of(sweep)
    assert {rank: name for rank, (name, _) in there.items()} == {"0": "node1", "1": "node2"}
    steps = [step.split()[0] for step in slurm.ask("squeue", "-h", "--steps").splitlines()]
    assert any(step.endswith(".0") for step in steps), "rank 1 is a step of the job"

    # Taken away in the midst: nothing stays behind, and no step is lost.
    assert queue.cancel(sweep) == 1
    running.wait_until(lambda: not queue.query_tasks(sweep), "gone")
    assert ranks_of(sweep) == {}
    (row,) = planned.folder.attempts()
    assert row["outcome"] == "stopped"
    done = planned.folder.metrics()[-1]["step"]

    send(sweep, nodes=2)
    running.wait_until(lambda: went_on_from(sweep), "going on")
    assert went_on_from(sweep)[0] >= done > 0

    # The rank on the other node dies: the worker says how, and tries again.
    os.kill(ranks_of(sweep)["1"][1], signal.SIGKILL)
    wait_for(sweep)
    rows = planned.folder.attempts()
    assert [row["outcome"] for row in rows] == ["stopped", "failed", "done"]
    assert rows[1]["error"] == "RankFailed: rank 1: signal SIGKILL (lack of memory?)"
    assert not list(planned.folder.path.glob("rank*.txt"))

    # The same two ranks, started by a worker of this machine.
    alone = tmp_path / "alone"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(alone))
        reference = sweep_of("spread", epochs=80)
    assert running.work(reference, "tests") == 1
    assert running.outcome(sweep) == running.outcome(reference)


def test_a_rank_on_another_node_has_its_gpus_and_ends_with_the_leader(
    slurm: Cluster, tmp_path: Path
) -> None:
    # Two ranks at a time, as a run of four has on each of two nodes.
    (tmp_path / "rank.py").write_text(
        "import os, sys\n"
        "names = 'SLURMD_NODENAME', 'CUDA_VISIBLE_DEVICES', 'SLURM_CPUS_ON_NODE'\n"
        "print(*(os.environ[name] for name in names), flush=True)\n"
        "print(len(sys.stdin.read()), flush=True)\n"
    )
    (tmp_path / "leader.py").write_text(
        "import os, subprocess, sys\n"
        "from mixbench.experiments.worker import launch_ranks\n"
        "from mixbench.slurm import node\n"
        "print(launch_ranks.nodes(), node.slots('cuda', 1, devices=4), flush=True)\n"
        "os.environ.pop('CUDA_VISIBLE_DEVICES')\n"
        "command = [*launch_ranks._srun('node2'), sys.executable, 'rank.py']\n"
        "both = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(2)]\n"
        "print([one.stdout.readline().split() for one in both], flush=True)\n"
        "print([one.communicate()[0] for one in both], flush=True)\n"
    )
    root = Path(mixbench.__file__).resolve().parent.parent
    subprocess.run(
        [
            "sbatch",
            "--nodes=2",
            "--ntasks-per-node=1",
            "--gpus-per-node=2",
            "--cpus-per-task=4",
            "--mem=100M",
            "--output=said.txt",
            f"--wrap=exec {sys.executable} leader.py",
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    said = tmp_path / "said.txt"
    running.wait_until(lambda: not slurm.ask("squeue", "-h"), "ended")
    lines = [row for row in said.read_text().splitlines() if not row.startswith("srun:")]
    assert lines == [
        "['', 'node2'] [Slot(gpu='0,1', threads=4)]",
        str([["node2", "0,1", "4"]] * 2),
        str(["0\n"] * 2),
    ]


def test_profiles_of_several_nodes_that_are_refused() -> None:
    def made(**keys: Any) -> profile.Profile:
        return profile.parse({"nodes": 2, **keys}, Path("x.yaml"))

    assert made(gpus_per_node=4, cpus=8).workers_for(devices=8) == 1
    assert made(gres="gpu:h100:4").workers_for(devices=2) == 1
    assert made(cpus=4).workers_for(devices=6) == 1
    for keys, devices, words in (
        ({"cpus": 4}, 1, r"training\.devices: got 1, expected a multiple of 2, with the profile x"),
        ({"gpus_per_node": 4}, 1, "got 1, expected a multiple of 2 up to 8, the GPUs of a task"),
        ({"gpus_per_node": 4}, 3, "got 3, expected a multiple of 2 up to 8, the GPUs of a task"),
        ({"gpus_per_node": 4}, 10, "got 10, expected a multiple of 2 up to 8, the GPUs of a task"),
    ):
        with pytest.raises(UserError, match=words) as error:
            made(**keys).workers_for(devices)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="workers_per_gpu: got 2, expected 1 with the profile x"):
        made(gpus_per_node=1).with_workers_per_gpu(2).workers_for(2)
    for keys, words in (
        ({"gpus": 8}, "gpus: counts those of all nodes; with nodes, give gpus_per_node"),
        ({"cpus": 4, "workers": 2}, "workers: got 2, expected 1 with nodes of 2"),
        ({"gres": "gpu:4", "workers_per_gpu": 3}, "workers_per_gpu: got 3, expected 1 with nodes"),
        ({"container": "apptainer exec x.sif"}, "container: with nodes of 2, expected none"),
    ):
        with pytest.raises(UserError, match=words):
            made(**keys)


def test_several_nodes_on_the_command_line(slurm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("nodes: 2\ncpus: 2\n")
    checked = running.mixbench("profile", "check", "wide.yaml")
    assert checked.returncode == 0 and "using 4 processors on nodes node[1-2]" in checked.stdout
    (tmp_path / "x.yaml").write_text(
        "name: x\n"
        "fixed: {dataset: {name: digits}, model: {name: small_cnn}, training: {epochs: 1}}\n"
    )
    refused = running.mixbench("sweep", "x.yaml", "--cluster", "slurm", "--profile", "wide.yaml")
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.splitlines() == [
        "mixbench: training.devices: got 1, expected a multiple of 2, with the profile wide "
        "(nodes: 2)"
    ]
    assert not (tmp_path / "all runs").exists()
    planned = running.mixbench(
        "plan",
        "x.yaml",
        "--set",
        "training.devices=2",
        "--cluster",
        "slurm",
        "--profile",
        "wide.yaml",
    )
    assert planned.returncode == 0 and "on 1 SLURM task of 1 worker" in planned.stdout


def test_the_share_of_a_run_on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert node.slots("cpu", 8, devices=2) == [Slot(None, 2)] * 4
    assert node.slots("cpu", 1, devices=16) == [Slot(None, 8)]
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    assert node.slots("cpu", 1, devices=4) == [Slot(None, 8)]
    assert node.slots("cuda", 1, devices=8) == [Slot("0,1,2,3", 8)]
    assert node.slots("cuda", 1, devices=4) == [Slot("0,1", 8)]
    assert node.slots("cuda", 1, devices=10) == []
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(launch_ranks.RankFailed, match=r"the job's nodes are not known: .*scontrol"):
        launch_ranks.nodes()
