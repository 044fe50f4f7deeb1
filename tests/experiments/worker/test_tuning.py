"""A sweep that tunes, from the first tuning run to the report, by real workers."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from mixbench.experiments.manage.observe import Observer
from mixbench.experiments.store import choices
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep import expand
from tests.support import running

DIES_CHOOSING = (
    "import os, signal\n"
    "from mixbench.experiments.store import tuned_cell\n"
    "from mixbench.experiments.worker.__main__ import main\n"
    "tuned_cell.write_once = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    "exit(main())"
)


def spec(name: str, **parts: Any) -> dict[str, Any]:
    fixed = running.spec(name)["fixed"] | {"training": {"epochs": 2, "batch_size": 64}}
    tuned = {"over": {"augmentation.prob": [0.3, 1]}, "replicates": 2}
    written = running.spec(name, fixed=fixed, replicates=2, tune=tuned)
    del written["seeds"]
    return written | parts


def worker(folder: SweepFolder, name: str, program: str = running.EAGER_WORKER) -> Any:
    options = (str(folder.path), "--threads", "1", "--name", name)
    return running.start(sys.executable, "-c", program, *options)


def states(folder: SweepFolder) -> dict[tuple[str, str], set[RunState]]:
    found: dict[tuple[str, str], set[RunState]] = {}
    for run in folder.plan():
        key = run.config["augmentation"]["name"], run.part
        found.setdefault(key, set()).add(run.folder.state())
    return found


def test_two_workers_of_which_one_is_killed_as_it_chooses(runs: Path) -> None:
    folder = running.planned(spec("tuned"))
    pending = [run for run in folder.plan() if run.pending]
    assert len(pending) == 2 and not any(run.folder.path.exists() for run in pending)
    first = worker(folder, "dies", DIES_CHOOSING)
    assert first.wait() == -signal.SIGKILL
    # All is there but the choice, and the status says what is waited for.
    assert not list(folder.path.glob("choice.*")) and not list(folder.path.glob("runs/*/failure*"))
    now = Observer(folder).snapshot()
    assert sum(run.waits_for_choice for run in now.runs) == 2
    shown = running.mixbench_here("status", "tuned").stdout
    assert "2 runs wait for the choice of a setting (cutmix tuned)" in shown
    assert "4 of 4 tuning runs done" in shown
    both = [worker(folder, "one"), worker(folder, "two")]
    assert [process.wait() for process in both] == [0, 0]

    (path,) = folder.path.glob("choice.*.json")
    choice = json.loads(path.read_text())
    (cell,) = choices.tuned_cells(folder.path, folder.plan())
    # The same whoever makes it: from the results alone.
    assert cell.decide() == choice
    means = {
        one["values"]["augmentation.prob"]: sum(one["scores"]) / 2 for one in choice["settings"]
    }
    assert choice["values"]["augmentation.prob"] == min(means, key=lambda prob: means[prob])
    for one in choice["settings"]:
        results = [folder.find(key).folder.result() for key in one["runs"]]
        scores = [result["metrics"]["validation/nll"] for result in results if result]
        assert one["scores"] == scores

    # What was trained is the run of the chosen setting: a sweep of that setting has it.
    plain = {key: value for key, value in spec("plain").items() if key != "tune"}
    wanted = expand.expand(plain, {"augmentation.prob": choice["values"]["augmentation.prob"]})
    final = [run for run in folder.plan() if run.part == "tuned"]
    assert {run.run_key for run in final} <= {run_key for run_key, _ in wanted.keys}
    assert {run.cell_key for run in final} == {cell.cell_key}
    assert all(run.folder.state() == RunState.DONE for run in folder.plan())
    assert {run.config["replicate"] for run in final} == {0, 1}

    assert running.mixbench_here("report", "tuned").returncode == 0
    report = (folder.path / "report" / "report.md").read_text()
    table = (folder.path / "report" / "runs.csv").read_text()
    assert "## What tuning chose" in report and "Cost of tuning" in report
    assert "## Tuning" in report and "All settings that were tried" in report
    assert f"prob={choice['values']['augmentation.prob']:g} was chosen" in report
    assert report.count("(tuning)") == 0 and table.count("(tuning)") == 4
    # The default is one of the settings here: where it is chosen, there is one cell less.
    is_default = choice["values"]["augmentation.prob"] == 1
    verdicts = json.loads((folder.path / "report" / "verdicts.json").read_text())
    compared = {one["label"] for one in verdicts["contrasts"]}
    assert compared == ({"cutmix tuned"} if is_default else {"cutmix tuned", "cutmix default"})

    # Other rules choose anew from the same runs; the final runs of before are known as dropped.
    grown = spec("tuned", replicates=3)
    grown["tune"] = {**grown["tune"], "rule": "one_se"}
    file = runs / "grown.yaml"
    file.write_text(yaml.safe_dump(grown))
    shown = running.mixbench_here("plan", str(file), "--device", "cpu").stdout
    assert "2 replicates of their own (1000000, 1000001), 4 runs" in shown
    assert "its final runs wait for 4 tuning runs, 4 of them done" in shown
    options = ("--device", "cpu", "--no-track", "--no-report")
    assert running.mixbench_here("sweep", str(file), *options).returncode == 0
    plan = folder.plan()
    assert len(list(folder.path.glob("choice.*"))) == 2 and not any(run.pending for run in plan)
    assert all(run.folder.state() == RunState.DONE for run in plan)
    assert set(folder.dropped()) == {run.run_key for run in final} - {run.run_key for run in plan}


def test_a_failed_tuning_run_leaves_its_cell_unchosen_until_it_is_retried(runs: Path) -> None:
    folder = running.planned(spec("failing", replicates=1))
    tuning = [run for run in folder.plan() if run.part == "tuning"]
    broken = tuning[0].folder
    broken.path.mkdir(parents=True)
    broken.fail("ValueError: no luck", "", 1)
    assert running.work(folder, "tests") == 3 + 2
    assert states(folder) == {
        ("none", ""): {RunState.DONE},
        ("cutmix", "tuning"): {RunState.DONE, RunState.FAILED},
        ("cutmix", "tuned"): {RunState.FAILED},
        ("cutmix", "default"): {RunState.DONE},
    }
    reason = f"the tuning run {broken.run_key[:8]} (cutmix, augmentation.prob 0.3) failed"
    status = running.mixbench_here("status", "failing").stdout
    plan = running.mixbench_here("plan", "failing", "--device", "cpu").stdout
    assert f"{reason}: ValueError: no luck" in status
    assert f"cutmix tuned: over augmentation.prob; not chosen: {reason}" in plan
    assert running.mixbench_here("report", "failing").returncode == 0
    report = (folder.path / "report" / "report.md").read_text()
    assert f"not chosen, and its final runs are not trained: {reason}" in report.replace("\\", "")
    # The place of a run is no folder, before and after.
    pending = next(run for run in folder.plan() if run.pending)
    assert not pending.folder.path.exists()
    assert running.mixbench_here("retry", "failing", pending.run_key).returncode == 0
    assert pending.folder.state() == RunState.WAITING
    assert running.work(folder, "tests") == 1 + (len(folder.plan()) == 7)
    assert set.union(*states(folder).values()) == {RunState.DONE}


HALVING = {
    "over": {"augmentation.prob": [0.2, 0.4, 0.7, 1]},
    "replicates": 2,
    "metric": "validation/accuracy",
    "halving": {"at": [0.4, 0.7], "keep": 0.5},
}


def halved(name: str, **parts: Any) -> dict[str, Any]:
    written = spec(name, tune=HALVING, replicates=1, **parts)
    training = {"epochs": 4, "batch_size": 64, "learning_rate": 0.2}
    written["fixed"] = written["fixed"] | {"training": training}
    return written | {"grid": {"augmentation": ["cutmix"]}}


def test_poor_settings_are_stopped_and_the_others_end_as_if_none_had_waited(runs: Path) -> None:
    folder = running.planned(halved("halved"))
    running.work(folder, "tests")
    plan = folder.plan()
    assert {run.folder.state() for run in plan} == {RunState.DONE}
    (cell,) = choices.tuned_cells(folder.path, plan)
    looks = [json.loads(path.read_text()) for path in sorted(folder.path.glob("look.*"))]
    assert [(len(look["settings"]), len(look["kept"])) for look in looks] == [(4, 2), (2, 1)]
    for look, epoch in zip(looks, (2, 3), strict=True):
        means = {}
        for one in look["settings"]:
            tried = [setting for setting in cell.settings if setting.cell_key == one["cell_key"]]
            rows = [run.folder.metrics()[epoch - 1] for run in tried[0].runs]
            assert one["scores"] == [row["validation/accuracy"] for row in rows]
            means[one["cell_key"]] = one["mean"]
        worst_kept = min(means[key] for key in look["kept"])
        assert all(means[key] <= worst_kept for key in means.keys() - set(look["kept"]))
    stopped = {run.run_key: run.stopped_at for run in plan if run.stopped_at is not None}
    assert sorted(stopped.values()) == [2, 2, 2, 2, 3, 3]
    for run in plan:
        if run.run_key in stopped:
            assert len(run.folder.metrics()) == stopped[run.run_key] and not run.folder.result()
    choice = cell.choice()
    assert choice is not None and choice["chosen"] == looks[1]["kept"][0]
    now = Observer(folder).snapshot()
    assert now.settled and now.epochs == now.epochs_total == 4 * 2 + 2 * 3 + (len(plan) - 6) * 4
    assert running.mixbench_here("report", "halved").returncode == 0
    report = (folder.path / "report" / "report.md").read_text()
    assert report.count("stopped after epoch 2") == 2 and "3 others were stopped early" in report

    # Without looks the same runs go on, and come to the same as those that never waited.
    grown = halved("halved") | {"tune": {**HALVING, "halving": None}}
    running.work(running.planned(grown), "tests")
    again = running.planned(grown | {"name": "never_waited"})
    running.work(again, "tests")
    assert running.outcome(again) == running.outcome(folder)


def test_runs_that_wait_for_a_look_in_vain_keep_no_worker(runs: Path) -> None:
    folder = running.planned(halved("vain"))
    broken = next(run for run in folder.plan() if run.part == "tuning").folder
    broken.path.mkdir(parents=True)
    broken.fail("ValueError: no luck", "", 1)
    running.work(folder, "tests")  # and ends
    assert states(folder) == {
        ("cutmix", "tuning"): {RunState.FAILED},
        ("cutmix", "tuned"): {RunState.FAILED},
        ("cutmix", "default"): {RunState.DONE},
    }
    now = Observer(folder).snapshot()
    assert now.settled and now.failed == 8 + 1
    assert running.mixbench_here("retry", "vain").returncode == 0
    running.work(folder, "tests")
    assert set.union(*states(folder).values()) == {RunState.DONE}
