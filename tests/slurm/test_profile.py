"""Profiles: what they may say, where they are found, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.errors import UserError
from mixbench.slurm import check_here, overrides, profile, sbatch
from mixbench.slurm.profile import Profile, seconds
from tests.support import running


def made(**keys: Any) -> Profile:
    return profile.parse(keys, Path("mine.yaml"))


def refusal(**keys: Any) -> str:
    with pytest.raises(UserError) as error:
        made(**keys)
    message = str(error.value)
    assert message.startswith("mine.yaml: ") and "\n" not in message
    return message.removeprefix("mine.yaml: ")


@pytest.mark.parametrize(
    ("time", "length"),
    [
        ("1", 60),
        ("90", 5400),
        ("1:30", 90),
        ("02:00:00", 7200),
        ("1:02:03", 3723),
        ("1-00", 86400),
        ("1-12:30", 131400),
        ("2-00:00:01", 172801),
    ],
)
def test_times_as_sbatch_reads_them(time: str, length: int) -> None:
    assert seconds(time) == length


@pytest.mark.parametrize("time", ["", "UNLIMITED", "1h", "1:2:3:4", "-5", "1.5", "1-", "1-2:3:4:5"])
def test_no_times(time: str) -> None:
    with pytest.raises(ValueError, match="got "):
        seconds(time)


def test_minutes_round_up_as_in_slurm() -> None:
    assert made(time="02:00:00").minutes == 120
    assert made(time="2:01", signal_seconds=10).minutes == 3


@pytest.mark.parametrize(
    ("keys", "gpus"),
    [
        ({}, 0),
        ({"gres": "gpu:1"}, 1),
        ({"gres": "gpu"}, 1),
        ({"gres": "gpu:a100:4"}, 4),
        ({"gres": "gpu:a100"}, 1),
        ({"gres": "gpu:a100:2,gpu:v100:1"}, 3),
        ({"gres": "lscratch:100"}, 0),
        ({"gres": "lscratch:100,gpu:2"}, 2),
        ({"gpus": 2}, 2),
        ({"gpus": "a100:3"}, 3),
        ({"gpus_per_node": "h100:4"}, 4),
        ({"gpus_per_node": 8}, 8),
    ],
)
def test_gpus_of_a_task(keys: dict[str, Any], gpus: int) -> None:
    assert made(**keys).gpu_count == gpus


def test_workers_of_a_task() -> None:
    assert made(cpus=6).workers_for() == 6
    assert made(cpus=6, workers=3).workers_for() == 3
    assert made().workers_for() == 1
    assert made(gpus=2, workers_per_gpu=3, cpus=8).workers_for() == 6
    assert made(gpus=4).workers_for(devices=2) == 2
    assert made(gpus=4).workers_for(devices=3) == 1
    assert made(cpus=4).workers_for(devices=2) == 2
    assert made(cpus=4, workers=1).workers_for(devices=2) == 1
    assert made(cpus=4).workers_for(devices=8) == 1
    assert made(gpus=2).with_workers_per_gpu(5).workers_for() == 10
    with pytest.raises(UserError, match=r"training\.devices: got 4, expected at most 2"):
        made(gpus=2).workers_for(devices=4)
    with pytest.raises(UserError, match="workers_per_gpu: got 2, expected 1 where a run takes 2"):
        made(gpus=2, workers_per_gpu=2).workers_for(devices=2)
    with pytest.raises(UserError, match="the profile mine asks for no GPU"):
        made(cpus=2).with_workers_per_gpu(2)


def test_the_most_tasks() -> None:
    assert made().most_tasks == 100
    assert made(throttle=7).most_tasks == 7
    assert made(throttle=7, tasks=20).most_tasks == 20


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"partitoin": "x"}, "unknown key 'partitoin'; did you mean 'partition'? valid: "),
        ({"name": "x"}, "unknown key 'name'"),
        ({"cpus": 0}, "cpus: got 0, expected at least 1"),
        ({"cpus": "many"}, "cpus: got 'many', expected a whole number"),
        ({"cpus": 1.5}, "cpus: got 1.5, expected a whole number"),
        ({"cpus": True}, "cpus: got true, expected a whole number"),
        ({"gpus": 0}, "gpus: got 0, expected a number of GPUs, such as 2 or a100:2"),
        ({"gpus": "a b"}, "gpus: got 'a b', expected a number of GPUs"),
        ({"gpus": 1, "gres": "gpu:1"}, "gres and gpus: they ask for GPUs twice, give one of them"),
        ({"memory": "lots"}, "memory: got 'lots', expected megabytes, or a number with K, M"),
        ({"time": "1h"}, "time: got '1h', expected minutes, HH:MM:SS or D-HH:MM"),
        ({"time": "0:30"}, "time: got '0:30', expected at least a minute"),
        ({"time": 0}, "time: got '0', expected at least a minute"),
        ({"time": "UNLIMITED"}, "time: got 'UNLIMITED', expected minutes"),
        ({"time": 1}, "signal_seconds: got 90, expected less than the time of '1', which is 60"),
        ({"signal_seconds": 0}, "signal_seconds: got 0, expected at least 1"),
        ({"partition": ""}, "partition: got '', expected text on one line"),
        ({"partition": "a\n#SBATCH -x"}, "partition: got 'a\\n#SBATCH -x', expected text on one"),
        ({"partition": 5}, "partition: got 5, expected text on one line"),
        ({"setup": "module load x"}, "setup: got 'module load x', expected a list of lines"),
        ({"setup": ["#SBATCH --x"]}, "setup: got '#SBATCH --x', expected one line of shell each"),
        ({"setup": ["a\nb"]}, "setup: got 'a\\nb', expected one line of shell each"),
        ({"container": "run 'it"}, 'container: got "run \'it", expected a command: No closing'),
        ({"workers": 2}, "workers: got 2, expected at most cpus (1)"),
        ({"workers": 2, "gpus": 1}, "workers: for tasks without a GPU; give workers_per_gpu"),
        ({"workers_per_gpu": 2}, "workers_per_gpu: the profile asks for no GPU"),
        ({"flags": ["x"]}, "flags: got ['x'], expected a mapping"),
        ({"flags": {"array": "0-9"}}, "flags: array: mixbench sets this itself"),
        ({"flags": {"output": "x"}}, "flags: output: mixbench sets this itself"),
        ({"flags": {"time": 5}}, "flags: time: give it as the profile's own key time"),
        ({"flags": {"mem": 5}}, "flags: mem: give it as the profile's own key memory"),
        ({"flags": {"signal": "x"}}, "flags: signal: give it as the profile's own key signal_sec"),
        ({"flags": {"--x": 5}}, "flags: got '--x', expected sbatch's long option without its"),
        ({"flags": {"x": None}}, "flags: x: got None, expected text, a whole number or true"),
        ({"flags": {"x": False}}, "flags: x: got False, expected text, a whole number or true"),
        ({"flags": {"x": [1]}}, "flags: x: got [1], expected text, a whole number or true"),
        ({"flags": {"x": "a\nb"}}, "flags: x: got 'a\\nb', expected one line of text"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], words: str) -> None:
    assert words in refusal(**keys)


def test_options_of_one_command() -> None:
    base = made(gres="gpu:1", time=60, flags={"mail-type": "FAIL", "no-requeue": True})
    given = ["time=2:00:00", "gpus=2", "mem=4G", "mail-type=END", "requeue=true", "nice=-5"]
    chosen = overrides.apply(base, given)
    assert (chosen.time, chosen.gpus, chosen.gres, chosen.memory) == ("2:00:00", "2", None, "4G")
    assert chosen.flags == {"mail-type": "END", "requeue": True, "nice": "-5"}
    assert chosen.name == f"mine with --slurm {' '.join(given)}" and chosen.gpu_count == 2
    assert overrides.apply(base, []) is base
    # What goes by a name of its own is not lost on the way: every option of sbatch is known.
    assert not sbatch.OPTIONS & (sbatch.RESERVED_FLAGS | set(sbatch.KEYS_OF_FLAGS))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["tim=3"], "--slurm: unknown key 'tim'; did you mean 'time'?"),
        (["mail-tpe=END"], "--slurm: unknown key 'mail-tpe'; did you mean 'mail-type'?"),
        (["array=0-9"], "--slurm array: mixbench sets this itself"),
        (["--job-name=x"], "--slurm job-name: mixbench sets this itself"),
        (["setup=module load x"], "--slurm setup: expected in the profile"),
        (["time"], "--slurm: got 'time', expected KEY=VALUE, such as time=2:00:00"),
        (["time="], "--slurm: got 'time=', expected KEY=VALUE"),
        (["time=3h"], "--slurm time: got '3h', expected minutes, HH:MM:SS or D-HH:MM"),
        (["time=2:00:00", "time=3"], "--slurm time: given twice"),
        (["mem=4G", "memory=5G"], "--slurm memory: given twice"),
        (["cpus=many"], "--slurm cpus: got 'many', expected a whole number"),
        (["exclusive=false"], "--slurm exclusive: got 'false', expected a value, or true"),
        (["partition=a\n#SBATCH -x"], "--slurm partition: got "),
        (["comment=a\nb"], "--slurm comment: got "),
    ],
)
def test_options_that_are_refused(options: list[str], words: str) -> None:
    with pytest.raises(UserError) as error:
        overrides.apply(made(), options)
    assert str(error.value).startswith(words) and "\n" not in str(error.value)


def test_what_a_script_does_before_its_task_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In what a line sources, commands may fail.
    (tmp_path / "activate").write_text("false\nmine() { false; return 0; }\ntrue\n")
    lines = [f"source {tmp_path}/activate", "mine", "if false", "then", "echo x", "fi", "[ -d / ]"]
    python, container = check_here.check(made(setup=lines)), made(setup=lines, container="run it")
    assert python[0].startswith("setup: 7 lines run without an error on ")
    assert python[1].startswith(f"python: {sys.executable} (3.") and len(python) == 2
    assert check_here.check(container)[1] == "container: run it was not tried"
    for keys, words in (
        ({"python": f"{tmp_path}/bin/python"}, f"python: '{tmp_path}/bin/python' does not exist"),
        ({"python": f"{tmp_path}/activate -X"}, f"python: '{tmp_path}/activate' can't be run on "),
        ({"python": "bash --posix"}, "bash --posix can't run a task on "),
        ({"setup": ["true", "( exit 5 )", "true"]}, "setup: exit status 5 of the line: ( exit 5 )"),
        ({"setup": ["echo oops; exit 4"]}, "oops (tried on "),
        ({"setup": ["fi"]}, "syntax error near unexpected token `fi'"),
        ({"setup": ["sleep 5124"]}, "setup: still not done after 0 s"),
    ):
        monkeypatch.setattr(check_here, "SECONDS", 0.4 if "5124" in str(keys) else 60.0)
        with pytest.raises(UserError) as error:
            check_here.check(made(**keys))
        assert str(error.value).startswith("profile mine: ") and words in str(error.value)
        assert "\n" not in str(error.value)
    assert not subprocess.run(
        ["pgrep", "-fx", "sleep 5124"], check=False, capture_output=True
    ).stdout


def test_flags_are_kept_as_given() -> None:
    flags = made(flags={"exclusive": True, "nice": 100, "mail-type": "END"}).flags
    assert flags == {"exclusive": True, "nice": 100, "mail-type": "END"}
    assert flags["exclusive"] is True


def test_all_that_is_shipped_is_good() -> None:
    shipped = sorted(profile.SHIPPED.glob("*.yaml"))
    assert {path.stem for path in shipped} >= {
        "cpu",
        "gpu",
        "a100",
        "h100",
        "preemptible",
        "container",
        "national",
    }
    for path in shipped:
        loaded = profile.load(str(path))
        assert loaded.name == path.stem and loaded.description
        assert path.read_text().startswith("# ")


def test_where_profiles_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = tmp_path / "config" / "mixbench" / "profiles"
    here = tmp_path / "profiles"
    assert profile.load("cpu").description == "CPU workers in the default partition"
    for folder, text in ((home, "of the home"), (here, "from here")):
        folder.mkdir(parents=True)
        (folder / "cpu.yaml").write_text(f"description: {text}\n")
        assert profile.load("cpu").description == text
    (home / "other.yaml").write_text("time: 24:00:00\n")
    assert profile.load("other").minutes == 24 * 60, "no number to the base of 60"
    assert profile.available()["other"] == home / "other.yaml"
    with pytest.raises(UserError, match=r"unknown profile 'othre'; did you mean 'other'\? valid: "):
        profile.load("othre")
    with pytest.raises(UserError, match=r"profile file './none\.yaml' does not exist"):
        profile.load("./none.yaml")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "house"))
    house = tmp_path / "house" / ".config" / "mixbench" / "profiles"
    house.mkdir(parents=True)
    (house / "mine.yaml").write_text("cpus: 3\n")
    assert profile.load("mine").cpus == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpus: 1\ncpus: 2\n", "line 2: the key 'cpus' is given twice"),
        ("- cpus\n", "expected a mapping with the keys description, partition, account"),
        ("cpus: [\n", "line 2: "),
        ("cpus: !!python/object/apply:os.getpid []\n", "line 1: could not determine a constr"),
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        profile.load(str(path))
    assert words in str(error.value) and str(error.value).startswith(str(path))


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "lab.yaml").write_text("description: ours\nflags: {nice: 10}\n")
    listed = running.mixbench("profile", "list", cwd=tmp_path)
    assert listed.returncode == 0
    assert "lab" in listed.stdout and "ours" in listed.stdout and "preemptible" in listed.stdout
    shown = running.mixbench("profile", "show", "lab", cwd=tmp_path)
    assert "description: ours" in shown.stdout and "#SBATCH --nice=10" in shown.stdout
    for arguments in (("show", "lob"), ("check", "lob")):
        wrong = running.mixbench("profile", *arguments, cwd=tmp_path)
        assert wrong.returncode == 2 and wrong.stdout == ""
        assert "unknown profile 'lob'; did you mean 'lab'?" in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1
