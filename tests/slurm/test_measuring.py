"""The processes that measure finished runs, alone and under a task; on a real SLURM:
test_measuring_on_slurm.py."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mixbench.experiments import cli
from mixbench.experiments.cli import evaluate as evaluate_verb
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.overfitting import measure as overfitting
from mixbench.experiments.store import claims, evaluations
from mixbench.experiments.store.claims import Watch
from mixbench.experiments.store.processes import process_start
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import evaluate
from mixbench.slurm import processes as process_groups
from mixbench.slurm import profile, queue, requeue
from mixbench.slurm.local import Slot
from mixbench.slurm.measuring import Measurers, Order
from mixbench.slurm.requeue import MAX_FRUITLESS_STARTS, Progress, Requeue
from mixbench.slurm.script import TaskScript
from tests.support import running

ORDER = Order(
    {"calibration": {"bins": 15}, "attack": {"epsilons": [0.1], "words": "it's $HOME %j"}}
)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """Four runs, of which two say that they are done."""
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    made = running.planned(running.spec("one"))
    for planned in made.plan()[:2]:
        planned.folder.path.mkdir(parents=True)
        (planned.folder.path / "result.json").write_text('{"metrics": {}}')
    return made


def measured(folder: RunFolder, name: str, finished: float = 0.0) -> None:
    place = folder.path / evaluations.FOLDER
    place.mkdir(exist_ok=True)
    made = {"settings": ORDER.wanted[name], "provenance": {"finished": finished}}
    (place / f"{name}.json").write_text(json.dumps(made))


def test_what_is_missing(sweep: SweepFolder) -> None:
    first, second, third, _ = runs = sweep.plan()
    assert ORDER.missing(runs) == [first, second] and ORDER.count_measured(runs) == 0
    measured(first.folder, "calibration", 100.0)
    assert ORDER.missing(runs) == [first, second] and ORDER.count_measured(runs) == 1
    measured(first.folder, "attack", 200.0)
    assert ORDER.missing(runs) == [second] and ORDER.count_measured(runs) == 2
    later = Order(ORDER.wanted, since=150.0)
    assert later.missing(runs) == [first, second] and later.count_measured(runs) == 1
    assert Order.parse(later.text()) == later and Order.parse(ORDER.text()) == ORDER
    assert third not in later.missing(runs)


def test_tuning_runs_are_measured_where_they_are_asked_for(sweep: SweepFolder) -> None:
    final, tuning, *_ = runs = sweep.plan()
    runs[1] = tuning = replace(tuning, tune={"part": "tuning", "cell": final.cell_key})
    assert ORDER.missing(runs) == [final]
    assert ORDER._replace(tuning_runs=True).missing(runs) == [final, tuning]
    # An order that was given before there was the question.
    assert not Order.parse('{"wanted": {}, "since": null}').tuning_runs


def test_tasks_that_measure_go_by_what_is_measured(
    sweep: SweepFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "task")
    monkeypatch.setenv("PATH", "/nowhere")
    # Somebody stopped the training, and two runs will never be done.
    sweep.ask_to_stop("mixbench cancel")
    first, second, *_ = sweep.plan()
    measured(first.folder, "calibration")
    assert requeue.progress_of(sweep, ORDER) == Progress(1, 0)
    assert requeue.runs_left(sweep, ORDER)
    Requeue(sweep, "999999999_1", 0, ORDER).after_stop(warned=True)
    assert "scontrol requeue: scontrol is not on the PATH" in caplog.text, "it tries"
    Requeue(sweep, "999999999_1", MAX_FRUITLESS_STARTS, ORDER).after_stop(warned=True)
    assert "no run got further in 3 starts" in caplog.text
    for name in ORDER.wanted:
        for planned in (first, second):
            measured(planned.folder, name)
    assert not requeue.runs_left(sweep, ORDER)
    Requeue(sweep, "999999999_1", 0, ORDER).after_stop(warned=True)
    assert "not put back into the queue: no run is left" in caplog.text


def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """Have this stand in for the Python that measures."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{shell}\n")
    python.chmod(0o755)
    monkeypatch.setattr(process_groups.sys, "executable", str(python))


@pytest.mark.parametrize(
    ("shell", "unusable"),
    [
        ("exit 0", None),
        ("exit 1", "measuring processes that did not measure everything: exit status 1"),
        (
            "kill -KILL $$",
            "measuring processes that did not measure everything: signal SIGKILL (lack of memory?)",
        ),
    ],
)
def test_a_process_that_dies_is_not_waited_for(
    sweep: SweepFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: str,
    unusable: str | None,
) -> None:
    pretended(tmp_path, monkeypatch, shell)
    processes = Measurers(sweep, ORDER)
    for _ in range(2):
        processes.start(Slot(None, 1))
    running.wait_until(lambda: not processes.poll(), "ended")
    assert processes.unusable == unusable


def test_what_a_process_is_told(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    pretended(tmp_path, monkeypatch, f'printf "%s|" "$CUDA_VISIBLE_DEVICES" "$@" > {said}')
    processes = Measurers(sweep, ORDER._replace(since=1763800000.25))
    processes.start(Slot("GPU-7", 3))
    running.wait_until(lambda: not processes.poll(), "ended")
    gpu, *words, _ = said.read_text().split("|")
    assert gpu == "GPU-7" and words[:4] == [
        "-P",
        "-m",
        "mixbench.experiments.worker.evaluate",
        str(sweep.path),
    ]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert options["--device"] == "cuda" and options["--threads"] == "3"
    assert json.loads(options["--wanted"]) == ORDER.wanted
    assert float(options["--since"]) == 1763800000.25


def test_at_the_deadline_they_are_stopped(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that ends when told to, and one that must be killed.
    pretended(tmp_path, monkeypatch, "exec sleep 600")
    processes = Measurers(sweep, ORDER, deadline=0.5)
    processes.start(Slot(None, 1))
    pretended(tmp_path, monkeypatch, "trap '' TERM; exec sleep 600")
    processes.start(Slot(None, 1))
    monkeypatch.setattr(Measurers, "patience", 0.5)
    ids = [process.popen.pid for process in processes.running]
    began = time.monotonic()
    assert processes.poll() == 2
    running.wait_until(lambda: not processes.poll(), "stopped")
    assert 0.4 < time.monotonic() - began < 300
    assert processes.unusable is None
    running.wait_until(lambda: not any(map(process_start, ids)), "gone")


def test_the_script_of_tasks_that_measure(sweep: SweepFolder) -> None:
    chosen = profile.parse({"cpus": 2}, Path("x.yaml"))
    text = TaskScript(sweep, chosen, sweep.path, measure=ORDER.text()).text(3)
    assert "#SBATCH --job-name=one-mixbench-evaluate\n" in text
    # What the shell makes of the last line is what was meant.
    last = text.strip().splitlines()[-1].replace(f"exec {sys.executable}", "printf '%s\\n'", 1)
    done = subprocess.run(["bash", "-c", last], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert Order.parse(words[words.index("--measure") + 1]) == ORDER


def test_tasks_that_train_and_that_measure_are_told_apart(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.folder_of(sweep).mkdir()
    for job, measure in (("11", None), ("12", ORDER.text()), ("13", None)):
        queue.record(sweep, queue.Submitted(job, 1, "x", 1, measure))
    # Records of before there were tasks that measure.
    with (queue.folder_of(sweep) / "jobs.jsonl").open("a") as file:
        file.write('{"job": "14", "tasks": 1, "profile": "x", "workers": 1}\n')
    rows = [
        "11|11|N/A|mixbench-one|RUNNING|None|n1|p",
        "12_0|12|0|mixbench-one-evaluate|PENDING|None||p",
        # Of another sweep, on a cluster that was set up anew.
        "13|13|N/A|mixbench-one-evaluate|RUNNING|None|n1|p",
        "14|14|N/A|mixbench-one|PENDING|None||p",
    ]
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(rows) + "\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    there = queue.query_tasks(sweep)
    assert {found.name: found.measure for found in there} == {
        "11": None,
        "12_0": ORDER.text(),
        "14": None,
    }


def test_the_watching_ends_when_no_task_is_left(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = sweep.plan()[:2]
    monkeypatch.setattr(evaluate_verb.slurm_queue, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(evaluate_verb.time, "sleep", lambda _: None)
    other = Order({"calibration": {"bins": 3}}).text()
    looks = iter(
        [
            # Nobody answers; then the last of these goes, and another one's tasks do not count.
            None,
            [queue.Task("1", 0, "RUNNING", "", "", ORDER.text())],
            [
                queue.Task("1", 0, "RUNNING", "", "", None),
                queue.Task("2", 0, "RUNNING", "", "", other),
            ],
        ]
    )
    monkeypatch.setattr(queue, "tasks", lambda _: next(looks))
    for name in ORDER.wanted:
        measured(done[0].folder, name)
    assert evaluate_verb._watch(sweep, ORDER, done) == [done[1]]
    assert next(looks, "none") == "none"
    said = capsys.readouterr().out
    assert "1 of 2 runs measured" in said and "no task is left; their logs:" in said
    # Where all is measured nobody is asked, and nobody waited for.
    for name in ORDER.wanted:
        measured(done[1].folder, name)
    there = iter([[queue.Task("1", 0, "RUNNING", "", "", ORDER.text())]])
    monkeypatch.setattr(queue, "tasks", lambda _: next(there))
    assert evaluate_verb._watch(sweep, ORDER, done) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--wait"], "--wait: is for --cluster slurm; the local cluster always waits"),
        (["--profile", "cpu"], "--profile: got 'cpu', which is for --cluster slurm alone"),
        (["--cluster", "slurm"], "--profile: missing; --cluster slurm needs one"),
        (
            ["--cluster", "slurm", "--profile", "cpu", "--device", "cpu"],
            "--device: with --cluster slurm the profile decides",
        ),
        (["--cluster", "slurm", "--profile", "cpuu"], "unknown profile 'cpuu'"),
        (["--cluster", "slurm", "--profile", "cpu", "--workers", "0"], "--workers: got 0"),
        (
            ["--cluster", "slurm", "--profile", "./wide.yaml"],
            "nodes: got 2, expected 1 to measure finished runs, with the profile wide",
        ),
        (["--cluster", "slurm", "--profile", "cpu"], "no SLURM on this machine"),
    ],
)
def test_options_that_do_not_fit(
    sweep: SweepFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    Path("wide.yaml").write_text("nodes: 2\n")
    assert cli.main(["evaluate", "one", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and words in said.err
    assert not (sweep.path / "slurm").exists()


def test_a_task_measures_what_a_dead_process_left(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    shutil.copytree(trained, tmp_path / "small")
    sweep = SweepFolder(tmp_path / "small")
    settings = {"attack.images": 100, "attack.epsilons": [0.1]}
    order = Order(catalogue.resolve(settings, ["calibration", "attack"]))
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-P",
                "-u",
                "-m",
                "mixbench.slurm.task",
                str(sweep.path),
                "--workers",
                "2",
            ),
            *("--time-limit", "3600", "--measure", order.text()),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    place = sweep.plan()[0].folder.path / evaluations.FOLDER
    running.wait_until(lambda: claims.holder(place), "a claim")
    claim = claims.holder(place)
    assert claim
    os.kill(claim["pid"], signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert order.missing(sweep.plan()) == [], "the other process went on"
    assert process.returncode == 1
    assert "2 x 1 CPU thread" in said and "signal SIGKILL (lack of memory?)" in said
    last = claims.last(place)
    assert last and last["number"] == 2 and last["released"] == "measured"


def test_told_to_stop_it_lets_go_of_its_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(300)

    shutil.copytree(trained, tmp_path / "small")
    sweep = SweepFolder(tmp_path / "small")
    wanted = catalogue.resolve({}, ["overfitting"])
    monkeypatch.setattr(overfitting, "measure", stopped)
    monkeypatch.setattr(sys, "argv", ["again", str(sweep.path), "--wanted", json.dumps(wanted)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert evaluate.main() == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    claim = claims.last(sweep.plan()[0].folder.path / evaluations.FOLDER)
    assert claim and "released" in claim
    assert not evaluations.failures(sweep.plan()[0].folder), "it is no failure"


def test_a_task_whose_time_is_up_lets_go(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    shutil.copytree(trained, tmp_path / "small")
    sweep = SweepFolder(tmp_path / "small")
    for planned in sweep.plan():
        # Somebody else has them in hand, so there is nothing to do but wait.
        (planned.folder.path / evaluations.FOLDER).mkdir()
        assert claims.acquire(planned.folder.path / evaluations.FOLDER, "other", Watch())
    order = Order(catalogue.resolve({}, ["calibration"]))
    began = time.monotonic()
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-P",
                "-m",
                "mixbench.slurm.task",
                str(sweep.path),
                "--time-limit",
                "3",
            ),
            *("--signal-seconds", "1", "--measure", order.text()),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 and time.monotonic() - began > 2, done.stdout
    assert "not put back into the queue: this is no SLURM job" in done.stdout
    assert "status" not in done.stdout and order.missing(sweep.plan()) == sweep.plan()
