"""The scripts that are submitted, and machines where nothing can be."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm import profile, submit
from mixbench.slurm.script import TaskScript
from mixbench.slurm.submit import array_sizes
from tests.support import running, slurm_cluster

GOLDEN = Path(__file__).parent / "golden"

PROFILES = {
    "plain": {"time": 30},
    "everything": {
        "partition": "gpu",
        "account": "lab-1",
        "qos": "high",
        "gres": "gpu:a100:2",
        "cpus": 16,
        "memory": "64G",
        "time": "1-00:00",
        "constraint": "a100&ib",
        "throttle": 8,
        "workers_per_gpu": 3,
        "signal_seconds": 120,
        "python": "python3.12",
        "setup": ["module load cuda", "ulimit -n 4096"],
        "flags": {"exclusive": True, "mail-type": "END,FAIL", "comment": "two words", "nice": 5},
    },
    "contained": {
        "gpus": "h100:1",
        "time": "08:00:00",
        "container": "apptainer exec --nv 'my image.sif'",
        "flags": {"no-requeue": True},
    },
}


def masked(text: str) -> str:
    return text.replace(sys.executable, "PYTHON")


@pytest.mark.parametrize("name", PROFILES)
def test_the_script_is_the_golden_one(name: str) -> None:
    chosen = profile.parse(PROFILES[name], Path(f"{name}.yaml"))
    sweep = SweepFolder(Path("/data/all runs/demo"))
    options = ("--retries", "2", "--hang", "600")
    text = masked(TaskScript(sweep, chosen, sweep.path / "code" / "0123abcd", options).text(12))
    assert text == (GOLDEN / f"{name}.sh").read_text()
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_words_of_a_path_stay_together() -> None:
    # What the shell makes of the last line is what was meant.
    sweep = SweepFolder(Path("/data/it's $HOME; all/demo"))
    chosen = profile.parse(PROFILES["contained"], Path("contained.yaml"))
    last = TaskScript(sweep, chosen, sweep.path).text(2).strip().splitlines()[-1]
    shown = last.replace(f"exec {sys.executable}", "printf '%s\\n'", 1)
    done = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[words.index("mixbench.slurm.task") + 1] == str(sweep.path)
    assert words[words.index("--container") + 1] == "apptainer exec --nv 'my image.sif'"


@pytest.mark.parametrize(
    ("tasks", "size", "expected"),
    [
        (1, 1001, [1]),
        (1001, 1001, [1001]),
        (1002, 1001, [1001, 1]),
        (7, 3, [3, 3, 1]),
        (6, 3, [3, 3]),
        (3, 1, [1, 1, 1]),
        (2, 0, [None, None]),
        (0, 5, []),
    ],
)
def test_sizes_of_arrays(tasks: int, size: int, expected: list[int | None]) -> None:
    assert array_sizes(tasks, size) == expected


def test_without_arrays_a_task_is_a_job() -> None:
    sweep = SweepFolder(Path("/data/demo"))
    text = TaskScript(sweep, profile.parse({}, Path("x.yaml")), sweep.path).text(None)
    assert "--array" not in text and "/data/demo/slurm/%j_0_log.out" in text


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    return running.planned(running.spec("one"))


def test_no_slurm_on_this_machine(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    chosen = profile.parse({}, Path("x.yaml"))
    for attempt in (
        lambda: submit.submit(sweep, chosen, code=sweep.path, missing=4),
        lambda: submit.check_accepted(chosen),
        lambda: submit.check_possible(chosen),
    ):
        with pytest.raises(UserError, match=r"no SLURM on this machine .*; use --cluster local"):
            attempt()
    assert not (sweep.path / "slurm").exists()


def test_slurm_that_knows_no_cluster(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    # The packages are there, and nobody has set up a cluster.
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    empty = sweep.path / "slurm.conf"
    empty.write_text("ClusterName=x\nSlurmctldHost=localhost\n")
    monkeypatch.setenv("SLURM_CONF", str(empty))
    monkeypatch.setattr(submit, "SBATCH_SECONDS", 1.0)
    monkeypatch.setenv("MIXBENCH_SLURM_SECONDS", "1")
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        submit.submit(sweep, profile.parse({}, Path("x.yaml")), code=sweep.path, missing=4)
    # sbatch itself would try for minutes.
    assert time.monotonic() - began < 60
    assert "\n" not in str(error.value)
    assert not (sweep.path / "slurm").exists()


def test_what_can_not_be_submitted(sweep: SweepFolder) -> None:
    with pytest.raises(
        UserError, match=r"training\.devices: got 1, expected a multiple of 2, with"
    ):
        submit.check_possible(profile.parse({"nodes": 2}, Path("x.yaml")))
    with pytest.raises(UserError, match=r"training\.devices: got 2, expected at most 1"):
        submit.check_possible(profile.parse({"gpus": 1}, Path("x.yaml")), devices=2)
    chosen = profile.parse({}, Path("x.yaml"))
    with pytest.raises(UserError, match="--workers: got 0, expected at least 1"):
        submit.submit(sweep, chosen, code=sweep.path, missing=4, workers=0)
    with pytest.raises(UserError, match=r"SLURM can't have a % in the path"):
        submit.submit(SweepFolder(Path("/a%b")), chosen, code=sweep.path, missing=4)
    assert not (sweep.path / "slurm").exists()


def test_submitit_stays_out_of_the_launcher() -> None:
    code = (
        "import sys; from mixbench.slurm import node, profile, queue, submit, task\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"submitit", "torch", "mlflow", "pandas", "numpy"} & set(done.stdout.split())
