"""Runs that other sweeps have finished: found by their keys, taken over whole, never shared."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments import tracking
from mixbench.experiments.manage import clean
from mixbench.experiments.store import checkpoint, evaluations, plugin_code, reuse, take_over
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.training.history import History
from tests.augmentations import test_plugins
from tests.support import running
from tests.support.disks import mounted
from tests.support.finished_runs import contents, finish, flip_a_byte, parsed

MORE = {"augmentation": [{"name": "none"}, {"name": "cutmix"}, {"name": "mixup"}]}


def find(folder: SweepFolder) -> reuse.Found:
    plan = folder.plan()
    return reuse.find(folder.path, {run.run_key for run in plan}, lambda: plan)


def take(folder: SweepFolder) -> take_over.Taken:
    return take_over.take_over(folder.path, folder.plan(), find(folder).sources)


@pytest.fixture
def both(runs: Path) -> tuple[SweepFolder, SweepFolder]:
    """A finished sweep of four runs, and one with the same and two more that is not begun."""
    old = running.planned(running.spec("old"))
    for planned in old.plan():
        finish(planned)
    return old, running.planned(running.spec("new", grid=MORE))


def test_a_sweep_trains_only_what_no_other_has(
    trained: SweepFolder, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.path.parent, runs)
    old = SweepFolder(runs / "trained")
    before = contents(old.path / "runs")
    more, again = tmp_path / "more.yaml", tmp_path / "again.yaml"
    more.write_text(str(running.spec("more", grid=MORE)))  # in YAML's flow style
    again.write_text(str(running.spec("again", seeds=[1, 0])))

    planned = running.mixbench_here("plan", str(more))
    assert "4 taken over from trained (--no-reuse trains them here)\n2 runs to do" in planned.stdout
    without = running.mixbench_here("sweep", str(more), "--dry-run", "--no-reuse")
    assert "taken over" not in without.stdout and "6 runs to do" in without.stdout
    assert [path.name for path in runs.iterdir()] == ["trained"], "nothing is written"

    done = running.mixbench_here("sweep", str(again), "--no-track")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 taken over from trained\nagain: 4 runs, 4 done" in done.stdout
    folder = SweepFolder(runs / "again")
    for run in folder.plan():
        there, here = contents(old.path / "runs" / run.run_key), contents(run.folder.path)
        origin: Any = parsed(run.folder.path / "origin.json")
        del here["origin.json"]
        assert (origin["sweep"], origin["path"]) == ("trained", f"trained/runs/{run.run_key}")
        assert here == {name: there[name] for name in there if "claims" not in name}
    report = folder.path / "report"
    words = "Runs taken over from other sweeps**: 4 from trained"
    assert words in (report / "report.md").read_text()
    header, *rows = (report / "runs.csv").read_text().splitlines()
    assert "origin.sweep" in header and all(",trained," in row for row in rows)
    assert contents(old.path / "runs") == before
    tracking.project(folder)
    assert tracking.verify(folder).equal
    # Both sweeps have the weights: only deleting the last ones frees anything.
    shown = running.mixbench_here("clean", "again", "--weights").stdout
    assert "4 files shared with other sweeps" in shown
    shutil.rmtree(old.path)
    assert "shared" not in running.mixbench_here("clean", "again", "--weights").stdout


def test_what_one_sweep_writes_never_changes_another(
    both: tuple[SweepFolder, SweepFolder],
) -> None:
    old, new = both
    before = contents(old.path)
    assert take(new).sweeps == dict.fromkeys((run.run_key for run in old.plan()), "old")
    for planned in new.plan()[:4]:
        folder = planned.folder
        # Everything that is written into run folders, by what writes it.
        folder.add_attempt({"outcome": "retry"})
        History(folder.path / "metrics.jsonl").begin()
        with (folder.path / "log.txt").open("a") as log:
            log.write("a line\n")
        checkpoint.save(folder.path, {"weights": 1})
        evaluations.fail(folder, "calibration", "an error")
        for path in folder.path.rglob("*.*"):
            if path.is_file() and path.stat().st_nlink > 1:
                path.unlink()  # as a rename onto it does
    assert contents(old.path) == before
    for planned in old.plan():
        shutil.rmtree(planned.folder.path)
    assert all(run.folder.attempts() for run in new.plan()[:4]), "and needs none of it"


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def _link(name: str) -> Callable[[Path], object]:
    def link(run: Path) -> None:
        (run / name).rename(run.with_name("elsewhere"))
        (run / name).symlink_to(run.with_name("elsewhere"))

    return link


def _tear(run: Path) -> None:
    content = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(content[: len(content) // 2])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (_write("result.json", "{"), "result.json can't be read"),
    "no result": (_write("result.json", "{}"), "result.json can't be read"),
    "another run's": (
        _write("result.json", '{"schema": 1, "run_key": "ab", "metrics": {}}'),
        "result.json is of another run",
    ),
    "no configuration": (lambda run: (run / "config.json").unlink(), "config.json can't be read"),
    "torn weights": (_tear, "checkpoint.pt is damaged"),
    "torn predictions": (_write("predictions.npz", ""), "predictions.npz is damaged"),
    "damaged weights": (lambda run: flip_a_byte(run / "checkpoint.pt"), "checkpoint.pt is damaged"),
    "weights elsewhere": (_link("checkpoint.pt"), "checkpoint.pt is a link"),
    "a link": (_link("result.json"), "result.json is a link"),
}


def test_damaged_runs_are_named_and_trained_here(runs: Path) -> None:
    old = running.planned(running.spec("old", seeds=list(range(6))))
    new = running.planned(running.spec("new", seeds=list(range(6))))
    damaged = {}
    for planned, (damage, why) in zip(old.plan(), DAMAGES.values(), strict=False):
        damage(finish(planned))
        damaged[planned.run_key] = f"old: {why}"
    good = finish(old.plan()[-1])
    found = find(new)
    taken = take_over.take_over(new.path, new.plan(), found.sources)
    assert taken.sweeps == {good.name: "old"}
    refused = found.refused | taken.refused
    assert {key: refused[key].startswith(why) for key, why in damaged.items()} == dict.fromkeys(
        damaged, True
    ), refused
    assert [path.name for path in (new.path / "runs").iterdir()] == [good.name]
    assert not list(new.path.glob(f"{take_over.ASIDE}*"))

    # Where another sweep has it whole, nothing needs to be said.
    third = running.planned(running.spec("third", seeds=list(range(6))))
    for planned in third.plan():
        finish(planned, "third")
    found = find(new)
    assert {source.sweep for source in found.sources.values()} == {"third"}
    assert len(found.sources) == 11 and not found.refused


def test_never_from_outside_the_root_nor_from_itself(
    both: tuple[SweepFolder, SweepFolder], tmp_path: Path
) -> None:
    old, new = both
    outside = tmp_path / "outside"
    old.path.rename(outside)
    (new.path.parent / "old").symlink_to(outside)
    assert not find(new).sources
    (new.path.parent / "old").unlink()
    outside.rename(old.path)
    (old.path / "runs").rename(tmp_path / "outside")
    (old.path / "runs").symlink_to(tmp_path / "outside")
    assert not find(new).sources
    (old.path / "runs").unlink()
    (tmp_path / "outside").rename(old.path / "runs")
    # A link to the same sweep is the same sweep.
    (new.path.parent / "also_new").symlink_to(new.path)
    (new.path.parent / "also_old").symlink_to(old.path)
    assert {source.sweep for source in find(new).sources.values()} == {"old"}
    first = old.plan()[0].folder.path
    first.rename(tmp_path / "outside")
    first.symlink_to(tmp_path / "outside")
    assert first.name not in find(new).sources and "folder" in find(new).refused[first.name]


def test_begun_runs_stay_as_they_are(both: tuple[SweepFolder, SweepFolder]) -> None:
    _, new = both
    found = find(new)
    plan = new.plan()
    plan[0].folder.path.mkdir()
    plan[0].folder.fail("an error", "", 1)
    assert plan[0].run_key not in find(new).sources
    # Begun between the look and the taking over.
    taken = take_over.take_over(new.path, plan, found.sources)
    assert set(taken.sweeps) == {run.run_key for run in plan[1:4]} and not taken.refused
    assert plan[0].folder.state() == RunState.FAILED
    assert [path.name for path in plan[0].folder.path.iterdir()] == ["failure.json"]
    # A worker has made the folder, and not yet claimed the run.
    shutil.rmtree(plan[1].folder.path)
    plan[1].folder.path.mkdir()
    assert take_over.take_over(new.path, plan, found.sources).sweeps == {plan[1].run_key: "old"}


PRETRAINED = {
    "pretrain": {"other": {"dataset": {"name": "digits", "split_seed": 1}}},
    "grid": {"transfer.weights": ["pretrain:other"], "augmentation": ["none", "cutmix"]},
    "seeds": [0],
}


def pretrained(name: str) -> tuple[SweepFolder, list[PlannedRun]]:
    """A sweep of a pretraining and two runs that start from its weights."""
    folder = running.planned(running.spec(name, **PRETRAINED))
    return folder, folder.plan()


def test_runs_are_taken_over_with_the_very_weights_that_they_started_from(runs: Path) -> None:
    _, [base, first, second] = pretrained("old")
    new, plan = pretrained("new")
    finish(base)
    finish(first)
    assert set(take(new).sweeps) == {base.run_key, first.run_key}

    # The same pretraining, trained twice: two networks, whatever the key says.
    shutil.rmtree(new.path)
    new, plan = pretrained("new")
    finish(plan[0], "trained here")
    found = find(new)
    assert not found.sources
    assert found.refused == {first.run_key: "old: it started from weights of another training"}

    # Weights that were deleted are no loss where nobody starts from them any more.
    shutil.rmtree(new.path)
    new, plan = pretrained("new")
    (base.folder.path / "checkpoint.pt").unlink()
    found = find(new)
    assert not found.sources and set(found.refused) == {base.run_key, first.run_key}
    finish(second)
    assert set(find(new).sources) == {base.run_key, first.run_key, second.run_key}

    # What can't be taken over after all takes those that start from it along.
    found = find(new)
    (base.folder.path / "result.json").write_text("{}")
    taken = take_over.take_over(new.path, plan, found.sources)
    assert not taken.sweeps and len(taken.refused) == 3


def forget() -> None:
    """Look at the installed packages again."""
    test_plugins.forget()
    plugin_code._installed.cache_clear()


def test_weights_of_a_run_elsewhere_must_be_of_that_very_training(runs: Path) -> None:
    bases = [running.planned(running.spec(name, seeds=[0])) for name in ("one", "two", "three")]
    for base, mark in zip(bases, ("same", "same", "another"), strict=True):
        finish(base.plan()[0], mark)

    def starting_from(name: str, base: SweepFolder) -> SweepFolder:
        weights = f"run:{base.name}/{base.plan()[0].run_key}"
        grid = {"transfer.weights": [weights]}
        return running.planned(running.spec(name, grid=grid, seeds=[0]))

    old, same, another = (
        starting_from(f"from_{base.name}", base) for base in (bases[0], bases[1], bases[2])
    )
    assert {run.run_key for run in old.plan()} == {run.run_key for run in another.plan()}
    finish(old.plan()[0])
    assert len(find(starting_from("again", bases[0])).sources) == 1
    assert len(find(same).sources) == 1
    refused = find(another)
    assert not refused.sources and "another training" in str(refused.refused)


def test_what_a_kill_left_is_cleaned_after_an_hour(both: tuple[SweepFolder, SweepFolder]) -> None:
    old, new = both
    aside = new.path / f"{take_over.ASIDE}{old.plan()[0].run_key}.0"
    aside.mkdir()
    os.link(old.plan()[0].folder.path / "checkpoint.pt", aside / "checkpoint.pt")
    assert clean.unneeded(new) == []
    os.utime(aside, (0, 0))
    (item,) = clean.unneeded(new)
    assert (item.path, item.size) == (aside, 0)
    clean.delete([item])
    assert not aside.exists() and (old.plan()[0].folder.path / "checkpoint.pt").exists()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    monkeypatch.undo()
    forget()


def test_methods_of_other_packages_must_be_of_the_same_code(runs: Path, site: Path) -> None:
    source = test_plugins.METHOD.format(name="swirl").replace("Other", "Swirl")
    forget()
    test_plugins.add(site, "swirl_package", {"swirl": "swirl_package:Swirl"}, source)
    grid = {"augmentation": ["none", "swirl", {"name": "choice", "methods": ["swirl", "mixup"]}]}
    old, new = (running.planned(running.spec(name, grid=grid)) for name in ("old", "new"))
    for planned in old.plan():
        record = plugin_code.record(plugin_code.current(planned.config), {})
        assert bool(record) == (planned.config["augmentation"]["name"] != "none")
        finish(planned, provenance=record)
    assert len(find(new).sources) == 6
    # The package has other code now; what none of its methods made stays.
    (site / "swirl_package.py").write_text(source.replace("nothing new", "something new"))
    del sys.modules["swirl_package"]
    forget()
    found = find(new)
    assert len(found.sources) == 2 and len(found.refused) == 4
    assert set(found.refused.values()) == {
        "old: was not made with the code that swirl_package has now"
    }


def test_another_disk_gets_copies(runs: Path) -> None:
    old, new = (running.planned(running.spec(name)) for name in ("old", "new"))
    for planned in old.plan():
        finish(planned)
    with mounted(runs / "disk", "8m") as disk:
        (disk / "runs").mkdir()
        (disk / "plan.jsonl").write_bytes((new.path / "plan.jsonl").read_bytes())
        plan = SweepFolder(disk).plan()
        assert len(take_over.take_over(disk, plan, find(new).sources).sweeps) == 4
        for planned in old.plan():
            there, here = contents(planned.folder.path), contents(disk / "runs" / planned.run_key)
            del here["origin.json"]
            assert here == {key: there[key] for key in there if "claims" not in key}
        # A full disk takes nothing, leaves nothing half, and stops nothing.
        shutil.rmtree(disk / "runs")
        with pytest.raises(OSError, match="No space left"):
            (disk / "filling").write_bytes(b"0" * (16 << 20))
        taken = take_over.take_over(disk, plan, find(new).sources)
        assert len(taken.sweeps) + len(taken.refused) == 4 and taken.refused
        assert "No space left" in str(taken.refused)
        assert sorted(path.name for path in disk.iterdir()) == ["filling", "plan.jsonl", "runs"]


TAKE = (
    "import sys\n"
    "from pathlib import Path\n"
    "from mixbench.experiments.store import reuse, take_over\n"
    "from mixbench.experiments.store.sweep_folder import SweepFolder\n"
    "folder = SweepFolder(Path(sys.argv[1])); plan = folder.plan()\n"
    "found = reuse.find(folder.path, {run.run_key for run in plan}, lambda: plan)\n"
    "print(flush=True)\n"
    "taken = take_over.take_over(folder.path, plan, found.sources)\n"
    "print(len(taken.sweeps), taken.refused)\n"
)


def test_killed_at_any_time_and_two_at_once_leave_whole_runs(runs: Path) -> None:
    seeds = list(range(40))
    old, new = (running.planned(running.spec(name, seeds=seeds)) for name in ("old", "new"))
    for planned in old.plan():
        finish(planned)
    killed, *others = (running.start(sys.executable, "-c", TAKE, str(new.path)) for _ in range(3))
    assert killed.stdout is not None and killed.stdout.readline()
    running.wait_until(lambda: any((new.path / "runs").iterdir()), "a run that was taken over")
    os.kill(killed.pid, signal.SIGKILL)
    counts = []
    for process in others:
        out, err = process.communicate(timeout=300)
        assert not err and out.endswith("{}\n"), (out, err)
        counts.append(int(out.split()[0]))
    killed.communicate(timeout=300)
    assert sum(counts) <= 80
    for planned in old.plan():
        run = new.path / "runs" / planned.run_key
        there, here = contents(planned.folder.path), contents(run)
        assert parsed(run / "origin.json")["run_key"] == planned.run_key
        del here["origin.json"]
        assert here == {key: there[key] for key in there if "claims" not in key}


def test_origins_of_origins(both: tuple[SweepFolder, SweepFolder]) -> None:
    _, new = both
    take(new)
    shutil.rmtree(new.path.parent / "old")
    third = running.planned(running.spec("third"))
    assert take(third).sweeps == dict.fromkeys((r.run_key for r in third.plan()), "new")
    origin: Any = take_over.origin(third.plan()[0].folder)
    assert (origin["sweep"], origin["earlier"]["sweep"]) == ("new", "old")
