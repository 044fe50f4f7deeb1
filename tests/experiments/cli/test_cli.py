"""The command in processes of its own: sweeps from start to end, interrupted, killed, doubled."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixbench import augmentations
from mixbench.experiments import cli
from mixbench.experiments.config import datasets
from mixbench.experiments.config.models import our_networks
from mixbench.experiments.evaluation.catalogue import MEASUREMENTS
from mixbench.experiments.store import processes
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running

QUIET = ("--no-track", "--no-report")


STRUCK = (
    "import os, signal, sys\n"
    "class Strike:\n"
    "    def find_spec(name, *_):\n"
    "        if name == sys.argv[1]:\n"
    "            os.kill(os.getpid(), signal.SIGINT)\n"
    "sys.meta_path.insert(0, Strike)\n"
    "from mixbench.experiments import cli\n"
    "sys.exit(cli.main(sys.argv[2:]))"
)
"""The command, with Ctrl-C at the import of one module."""


@pytest.mark.parametrize(
    "module", ["typer", "mixbench.experiments.cli.track", "mixbench.experiments.manage.observe"]
)
def test_ctrl_c_during_imports_ends_without_a_traceback(runs: Path, module: str) -> None:
    running.planned(running.spec("one", seeds=[0]))
    struck = running.start(sys.executable, "-c", STRUCK, module, "status", "one")
    said, errors = struck.communicate(timeout=300)
    assert (struck.returncode, said, errors) == (130, "", "")


def test_ctrl_c_after_the_command_was_imported_is_the_caller_s() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


PINNED = (
    "import os, sys; from mixbench.experiments import cli\n"
    "os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(sys.argv[1])]})\n"
    "sys.exit(cli.main(sys.argv[2:]))"
)
"""The command on one core, of which its worker takes one thread."""


def pinned(core: int, *arguments: str) -> subprocess.Popen[str]:
    core %= len(os.sched_getaffinity(0))
    return running.start(sys.executable, "-c", PINNED, str(core), *arguments)


def written(folder: Path, spec: dict[str, Any]) -> str:
    path = folder / f"{spec['name']}.yaml"
    path.write_text(yaml.safe_dump(spec))
    return str(path)


def longer(name: str, epochs: int, **parts: Any) -> dict[str, Any]:
    spec = running.spec(name, **parts)
    spec["fixed"]["training"] = {"epochs": epochs, "batch_size": 16}
    return spec


def alive(pid: int) -> bool:
    return processes.process_start(pid) is not None


def holders(folder: SweepFolder) -> dict[str, int]:
    """run_key -> process, of the runs that are in the midst of their epochs."""
    found = {}
    for run in folder.plan():
        claim = run.folder.claim()
        if claim and run.folder.metrics() and not run.folder.result():
            found[run.run_key] = claim["pid"]
    return found


def outcomes(folder: SweepFolder) -> list[str]:
    return [row["outcome"] for run in folder.plan() for row in run.folder.attempts()]


# What needs no training.


def test_help_is_light_and_names_the_commands() -> None:
    code = (
        "import sys; from mixbench.experiments import cli; status = cli.main(sys.argv[1:])\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), status, file=sys.stderr)"
    )
    for arguments in ([], ["--help"], ["sweep", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        *loaded, status = done.stderr.split()
        assert status == "0"
        heavy = {"torch", "mlflow", "pandas", "numpy", "timm", "yaml", "matplotlib"}
        assert not heavy & set(loaded)
        # typer itself asks pydantic to look at the options of a command.
        assert "sweep" in arguments or "pydantic" not in loaded
        if "sweep" not in arguments:
            verbs = [
                "list",
                "inspect",
                "preview",
                "check",
                "try",
                "find-lr",
                "plan",
                "sweep",
                "profile",
                "status",
                "logs",
                "retry",
                "cancel",
                "clean",
                "evaluate",
                "report",
                "recommend",
                "claims",
                "compare",
                "track",
                "dashboard",
                "bench",
            ]
            assert re.findall(r"^  ([a-z][a-z-]*)  +[A-Z]", done.stdout, re.MULTILINE) == verbs
            assert "..." not in done.stdout.replace("[ARGS]...", ""), "no sentence is cut"
        else:
            for option in ("--set", "--workers", "--dry-run", "--name", "--device"):
                assert option in done.stdout


def test_list_shows_everything_there_is() -> None:
    code = (
        "import sys; from mixbench.experiments import cli\n"
        "cli.main(['list']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n") and done.stderr == ""
    for title in ("augmentations", "datasets", "models", "tasks", "sweeps", "measurements"):
        assert title in done.stdout.splitlines()
    names = (*augmentations.available(), *datasets.names(), *our_networks(), *MEASUREMENTS)
    for name in (*names, "timm/NAME", "demo"):
        assert re.search(rf"^  {re.escape(name)}\s", done.stdout, re.MULTILINE), name
    for shown in (
        "arXiv:1905.04899",
        "alpha=1.0",
        "per_sample=false",
        "10 classes",
        "compared by mIoU",
    ):
        assert shown in done.stdout


@pytest.mark.parametrize("what", ["augmentations", "datasets", "models", "tasks", "sweeps"])
def test_list_of_one_kind(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == what and len(lines) > 2
    assert all(line.startswith("  ") for line in lines[1:])


def test_a_dry_run_shows_the_cells_and_writes_nothing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, running.spec("dry", seeds=[0, 1, 2]))
    assert cli.main(["sweep", path, "--dry-run", "--workers", "2", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "dry: 2 cells, 6 runs" in out
    assert re.search(r"^[0-9a-f]{8}\s+none\s+3\s+0\s+0", out, re.MULTILINE)
    assert re.search(r"^[0-9a-f]{8}\s+cutmix\s+3\s+0\s+0", out, re.MULTILINE)
    assert re.search(r"6 runs to do on 2 x \d+ CPU threads?: about \d+ (s|min)", out)
    assert not runs.exists() and [entry.name for entry in tmp_path.iterdir()] == ["dry.yaml"]


def test_interrupted_before_any_worker_starts(runs: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from mixbench.experiments import cli\n"
        "from mixbench.experiments.sweep import load\n"
        "load.load = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(cli.main(['sweep', 'demo']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert not runs.exists()


# A sweep from start to end.


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A sweep done by the command: its folder, what was said, and its file."""
    here = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(here / "runs"))
        path = written(here, running.spec("trained"))
        done = running.mixbench("sweep", path, "--no-track", "--workers", "2", "--device", "cpu")
    return SweepFolder(here / "runs" / "trained"), done, path


@pytest.fixture
def its_root(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(finished[0].path.parent))


def test_a_sweep_is_done(finished: Any) -> None:
    folder, done, _ = finished
    assert done.returncode == 0, done.stderr
    assert "trained: 4 runs, 0 done" in done.stdout
    assert re.search(r"4/4 runs done, 0 running, 0 failed, 12/12 epochs", done.stdout)
    assert re.search(r"4 of 4 runs done in \d+ s", done.stdout)
    assert "report: " in done.stdout
    assert set(folder.states().values()) == {"done"}
    assert outcomes(folder) == ["done"] * 4


def test_workers_of_the_command_and_one_in_this_process_agree(
    finished: Any, trained: SweepFolder
) -> None:
    if os.cpu_count() and (os.cpu_count() or 1) > 3:
        pytest.skip(
            "more than three cores: workers have several threads, which add in another order"
        )
    assert running.outcome(finished[0]) == running.outcome(trained)


def test_its_report(finished: Any, its_root: None, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished[0]
    report = folder.path / "report"
    names = {path.name for path in report.iterdir()}
    assert names >= {"report.html", "report.md", "runs.csv", "figures"}
    assert list((report / "figures").glob("*.png"))
    assert len((report / "runs.csv").read_text().splitlines()) == 5
    before = (report / "runs.csv").read_text()
    (report / "report.html").unlink()
    assert cli.main(["report", "trained"]) == 0
    assert f"report: {report / 'report.html'}" in capsys.readouterr().out
    assert (report / "runs.csv").read_text() == before


def test_again_there_is_nothing_to_do(
    finished: Any, its_root: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, path = finished
    before = {key: run.stat().st_mtime_ns for key, run in files(folder.path).items()}
    assert cli.main(["sweep", path, *QUIET]) == 0
    assert "trained: 4 runs, 4 done" in capsys.readouterr().out
    assert {key: run.stat().st_mtime_ns for key, run in files(folder.path).items()} == before
    assert cli.main(["sweep", path, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "nothing is missing" in out
    assert re.search(r"^[0-9a-f]{8}\s+none\s+2\s+2\s+0", out, re.MULTILINE)


def files(folder: Path) -> dict[str, Path]:
    return {str(path): path for path in (folder / "runs").rglob("*") if path.is_file()}


# Interrupted, killed, doubled.


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A sweep stopped by Ctrl-C in its midst, then continued by two launchers at once."""
    here = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(here / "runs"))
        path = written(here, longer("long", 16))
        command = ("sweep", path, *QUIET, "--device", "cpu", "--workers")
        launcher = running.start(*running.COMMAND, *command, "2")
        folder = SweepFolder(here / "runs" / "long")
        running.wait_until(lambda: len(holders(folder)) == 2, "two runs in their midst")
        workers = holders(folder)
        launcher.send_signal(signal.SIGINT)
        said = launcher.communicate(timeout=300)
        stopped = {
            "status": launcher.returncode,
            "said": said,
            "workers": workers,
            "alive": [pid for pid in workers.values() if alive(pid)],
            "outcomes": outcomes(folder),
            "states": folder.states(),
        }
        both = [pinned(core, *command, "1") for core in range(2)]
        ends = [(launcher.communicate(timeout=300), launcher.returncode) for launcher in both]
    return folder, stopped, ends


def test_ctrl_c_leaves_a_sweep_that_can_go_on(interrupted: Any) -> None:
    _, stopped, _ = interrupted
    assert stopped["status"] == 130
    assert "stopped; the same command goes on where it was" in stopped["said"][0]
    assert stopped["said"][1] == ""
    assert stopped["alive"] == [], "no worker is left behind"
    for key in stopped["workers"]:
        assert stopped["states"][key] in ("waiting", "done")
    assert "stopped" in stopped["outcomes"] and "failed" not in stopped["outcomes"]


def test_two_launchers_at_once_do_every_run_once(interrupted: Any) -> None:
    folder, stopped, ends = interrupted
    assert [status for _, status in ends] == [0, 0], ends
    assert set(folder.states().values()) == {"done"}
    assert outcomes(folder).count("done") == 4
    assert len(outcomes(folder)) == 4 + stopped["outcomes"].count("stopped")
    for run in folder.plan():
        assert [row["epoch"] for row in run.folder.metrics()] == list(range(1, 17))


@pytest.fixture(scope="module")
def bereft(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A sweep whose only worker is killed in the midst of its first run."""
    here = tmp_path_factory.mktemp("bereft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(here / "runs"))
        path = written(here, longer("killed", 16, seeds=[0]))
        launcher = pinned(0, "sweep", path, *QUIET, "--workers", "1", "--device", "cpu")
        folder = SweepFolder(here / "runs" / "killed")
        running.wait_until(lambda: holders(folder), "a run in its midst")
        (victim,) = holders(folder).items()
        os.kill(victim[1], signal.SIGKILL)
        said = launcher.communicate(timeout=300)
    return folder, victim, said, launcher.returncode


def test_a_killed_worker_costs_its_attempt_and_nothing_else(bereft: Any) -> None:
    folder, (key, pid), (out, err), status = bereft
    assert status == 0 and err == ""
    assert set(folder.states().values()) == {"done"}
    assert "2 of 2 runs done" in out and "failed:" not in out
    (run,) = (run.folder for run in folder.plan() if run.run_key == key)
    assert run.failure() is None
    died, done = run.attempts()
    assert (died["outcome"], died["attempt"]) == ("died", 1)
    assert died["error"].startswith("the worker died: signal SIGKILL")
    assert (done["outcome"], done["attempt"]) == ("done", 2)
    # Another process did the rest.
    claims_of = [json.loads(path.read_text()) for path in sorted((run.path / "claims").iterdir())]
    assert claims_of[0]["pid"] == pid and claims_of[1]["pid"] != pid
    (other,) = (run.folder for run in folder.plan() if run.run_key != key)
    assert [row["outcome"] for row in other.attempts()] == ["done"]
