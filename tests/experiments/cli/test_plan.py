"""`mixbench plan`: hours from what was measured, and from nothing else without saying so."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments import cli
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.manage import estimate, time_steps
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm import local
from tests.support import running

HOUR = 3600.0


def did(planned: PlannedRun, epoch: float, rest: float | None, device: str, threads: int) -> None:
    """Leave what a run leaves whose epochs take so long; `rest` None: it is not done yet."""
    planned.folder.path.mkdir()
    rows = [{"epoch": n, "time": n * epoch} for n in (1, 2, 3)]
    text = "".join(f"{json.dumps(row)}\n" for row in rows[: 3 if rest is not None else 2])
    (planned.folder.path / "metrics.jsonl").write_text(text)
    if rest is not None:
        result = {
            "timing": {
                "setup_seconds": rest / 4,
                "evaluate_seconds": rest * 3 / 4,
                "train_seconds": 3 * epoch,
            },
            "provenance": {"device": device, "threads": threads},
        }
        (planned.folder.path / "result.json").write_text(json.dumps(result))


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of this machine's CPU; a machine with GPUs plans for the CPU here too."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    device = estimate.here(False, 1).device
    assert device is not None and device.startswith("cpu: ")
    return device


def planned_hours(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, float]:
    assert cli.main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    found = re.search(r"^  ([\d.]+) (?:CPU|GPU)-hours", out, re.MULTILINE)
    return out, float(found[1]) if found else float("nan")


def test_hours_come_from_the_epochs_of_this_sweep(
    runs: Path, cpu: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = running.planned(running.spec("own", seeds=[0, 1, 2]))
    none, cutmix = folder.plan()[:3], folder.plan()[3:]
    did(none[0], 1 * HOUR, 0.5 * HOUR, "cpu: one", 1)
    did(cutmix[0], 2 * HOUR, 1 * HOUR, "cpu: two", 3)
    # Two of three epochs are behind it; its kind takes an hour an epoch.
    did(none[1], 1 * HOUR, None, "", 1)
    before = {str(path) for path in runs.rglob("*")}
    out, hours = planned_hours(capsys, "own", "--workers", str(local.cores()))
    left = [1 + 0.5, 3 + 0.5, 2 * 3 + 1, 2 * 3 + 1]
    assert hours == pytest.approx(sum(left), abs=0.01)
    assert "4 runs to do" in out and "longest run 7 h 0 min" in out
    assert "2 runs: epochs measured in this sweep on one with 1 thread" in out
    assert "2 runs: epochs measured in this sweep on two with 3 threads" in out
    assert {str(path) for path in runs.rglob("*")} == before, "nothing is written"


def test_all_cores_for_one_worker_cost_all_cores(
    runs: Path, cpu: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = running.planned(running.spec("own"))
    for planned in (folder.plan()[0], folder.plan()[2]):
        did(planned, HOUR, 0.0, cpu, 1)
    out, hours = planned_hours(capsys, "own", "--workers", "1")
    assert hours == pytest.approx(2 * 3 * local.cores(), abs=0.01)
    assert "about 6 h 0 min, the longest run 3 h 0 min" in out


def test_then_from_other_sweeps_with_the_same_data_network_batch_and_device(
    runs: Path, cpu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = 1
    for name, device in (("near", cpu), ("far", "cpu: another")):
        planned = running.planned(running.spec(name)).plan()[0]
        did(planned, HOUR if device == cpu else 99 * HOUR, 0.0, device, threads)
    spec = running.spec("new", grid={"augmentation": ["mixup", "regmixup"]})
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(spec))
    workers = ("--workers", str(local.cores()))
    out, hours = planned_hours(capsys, str(tmp_path / "new.yaml"), *workers)
    assert "4 runs: epochs measured in sweep near on" in out and "far" not in out
    # RegMixup's second pass, forward and back, is as long as a step.
    assert hours == pytest.approx(2 * 3 + 2 * 2 * 3, abs=0.01)
    assert not (runs / "new").exists()
    # Another batch is another pace: that is timed, and said.
    batch = ("--set", "training.batch_size=32")
    out, hours = planned_hours(capsys, str(tmp_path / "new.yaml"), *batch, *workers)
    assert "4 runs: a few training steps timed now on" in out and hours < 1


def test_this_sweep_comes_before_others(
    runs: Path, cpu: str, capsys: pytest.CaptureFixture[str]
) -> None:
    did(running.planned(running.spec("a")).plan()[0], 50 * HOUR, 0.0, cpu, 1)
    folder = running.planned(running.spec("b"))
    did(folder.plan()[0], HOUR, 0.0, cpu, 1)
    out, hours = planned_hours(capsys, "b", "--workers", str(local.cores()))
    assert hours == pytest.approx(3 * 3, abs=0.01)
    assert "2 runs: epochs measured in this sweep with another augmentation" in out


def test_nothing_is_invented_for_a_cluster_that_was_never_seen(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, hours = planned_hours(capsys, "demo", "--cluster", "slurm", "--profile", "a100")
    assert hours != hours and "how long is not known before an epoch was measured" in out
    assert "no epoch with this data, network and batch has been measured on such a device" in out


def test_gpu_hours_of_a_cluster_come_from_gpus_alone_and_are_shared(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = running.planned(running.spec("shared"))
    did(folder.plan()[0], HOUR, 0.0, "cuda: NVIDIA A100", 8)
    did(folder.plan()[2], HOUR, 0.0, "cuda: NVIDIA A100", 8)
    slurm = ("--cluster", "slurm", "--profile", "a100")
    out, hours = planned_hours(capsys, "shared", *slurm, "--workers-per-gpu", "1")
    assert hours == pytest.approx(6.0, abs=0.01) and "2 SLURM tasks of 1 worker" in out
    out, hours = planned_hours(capsys, "shared", *slurm, "--workers-per-gpu", "3")
    assert hours == pytest.approx(2.0, abs=0.01) and "1 SLURM task of 3 workers" in out
    assert "epochs measured in this sweep on NVIDIA A100" in out
    assert re.search(r"1 array of tasks: 1 \(MaxArraySize \d+", out)
    assert "time limit of a task: 24 h 0 min (time of a100)" in out


def test_without_slurm_it_says_so_and_plans(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out, _ = planned_hours(capsys, "demo", "--cluster", "slurm", "--profile", "cpu")
    assert "SLURM is not on this machine; SLURM's default limits are assumed" in out


def test_a_dry_run_is_the_plan(
    runs: Path, cpu: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    did(running.planned(running.spec("dry")).plan()[0], HOUR, 0.0, cpu, 1)
    (tmp_path / "dry.yaml").write_text(yaml.safe_dump(running.spec("dry")))
    workers = ("--workers", str(local.cores()))
    assert cli.main(["sweep", str(tmp_path / "dry.yaml"), "--dry-run", *workers]) == 0
    dry = capsys.readouterr().out
    assert cli.main(["plan", "dry", *workers]) == 0
    assert capsys.readouterr().out == dry


def test_a_sweep_that_was_begun_is_planned_by_its_name(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = running.planned(running.spec("begun"), {"training.epochs": 2})
    for planned in folder.plan():
        did(planned, 1.0, 0.0, "cpu: x", 1)
    assert cli.main(["plan", "begun"]) == 0
    assert "begun: 2 cells, 4 runs\n4 done\nnothing is missing\n" in capsys.readouterr().out
    shutil.rmtree(folder.path)
    assert cli.main(["plan", "begun"]) == 2


def test_what_sets_the_pace_and_what_does_not() -> None:
    base = running.spec("x")["fixed"] | {"augmentation": {"name": "cutmix"}}

    def of(**changes: Any) -> str:
        sections = {key: {**base[key], **value} for key, value in changes.items() if key in base}
        made = parse({**base, **sections})
        return estimate.kind(made.model_dump(mode="json"))

    plain = of()
    for same in ({"training": {"epochs": 9}}, {"training": {"learning_rate": 0.3}}):
        assert of(**same) == plain
    for other in (
        {"training": {"batch_size": 8}},
        {"model": {"width": 8}},
        {"dataset": {"train_size": 200}},
        {"augmentation": {"alpha": 0.2}},
    ):
        assert of(**other) != plain


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=40), st.integers(1, 50))
def test_the_wall_time_of_workers_that_take_the_next_when_free(
    seconds: list[float], workers: int
) -> None:
    wall = estimate.wall(seconds, workers)
    least = max(max(seconds), sum(seconds) / workers)
    # Graham's bound for any order.
    assert least - 1e-6 <= wall <= sum(seconds) / workers + max(seconds) + 1e-6
    if workers == 1:
        assert wall == pytest.approx(sum(seconds))


def test_a_sweep_that_cannot_be_read_hides_no_other(
    runs: Path, cpu: str, capsys: pytest.CaptureFixture[str]
) -> None:
    header = running.planned(running.spec("broken")).path / "sweep.json"
    header.write_text("{}")
    did(running.planned(running.spec("whole")).plan()[0], HOUR, 0.0, cpu, 1)
    found = estimate.alike(
        [SweepFolder.open("whole").plan()[0].config], "none", estimate.Where(False, cpu, 1)
    )
    assert [cost.epoch for cost in found.values()] == [HOUR]


def test_what_is_frozen_and_when_images_are_mixed_make_another_kind() -> None:
    base = {
        "dataset": {"name": "digits"},
        "augmentation": {"name": "cutmix"},
        "transfer": {"weights": "efficientnet_lite0", "freeze": "all"},
        "model": {"name": "timm/tf_efficientnet_lite0", "input_size": 32},
    }

    def kind(**changes: Any) -> str:
        return estimate.kind(parse({**base, **changes}).model_dump(mode="json"))

    def transfer(**changes: Any) -> dict[str, Any]:
        return {**base["transfer"], **changes}

    kinds = [
        kind(),
        kind(transfer=None),
        kind(transfer=transfer(freeze=2)),
        kind(transfer=transfer(mixing="features")),
        kind(transfer=transfer(unfreeze="gradual")),
        kind(model={**base["model"], "input_size": 48}),
        kind(training={"optimiser": "adamw"}),
        kind(training={"optimiser": "sam"}),
        kind(training={"optimiser": "sam", "sam_base": "adamw"}),
        kind(staging="first_50"),
        kind(staging="last_25"),
    ]
    assert len(set(kinds)) == len(kinds)
    # What changes what is learnt and not how long it takes is the same kind.
    assert kind(training={"learning_rate": 0.3}, staging="always") == kinds[0]
    assert kind(transfer=transfer(head="keep", backbone_rate=0.1)) == kinds[0]
    # As a sweep of before these options has it.
    old = parse({"dataset": {"name": "digits"}}).model_dump(mode="json")
    known = estimate.kind(old)
    old["model"] = {name: old["model"][name] for name in ("name", "width", "small_stem")}
    del old["staging"], old["transfer"], old["training"]["optimiser"]
    assert estimate.kind(old) == known


def test_a_frozen_network_is_timed_as_one() -> None:
    runs = [
        parse(
            {
                "dataset": {"name": "fashion_mnist"},
                "model": {"name": "resnet20", "width": 8},
                "transfer": {"freeze": freeze},
                "training": {"batch_size": 16},
            }
        )
        for freeze in ("all", None)
    ]
    # Without a backward pass through all but the head, far less than a whole step; on a machine
    # with other work not at every try.
    for _ in range(5):
        costs = time_steps.timed(runs, estimate.Where(False, "cpu: x", 1))
        epochs = [costs[estimate.kind(run.model_dump(mode="json"))].epoch for run in runs]
        if epochs[0] < 0.8 * epochs[1]:
            return
    raise AssertionError(epochs)


def test_what_a_method_asks_of_the_network_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_steps, "_time", lambda *_: (2.0, 0.25))
    base = {"dataset": {"name": "digits"}, "training": {"batch_size": 16}}
    runs = [parse({**base, "augmentation": name}) for name in ("mixup", "snapmix", "regmixup")]
    costs = time_steps.timed(runs, estimate.Where(False, "cpu: x", 1))
    plain, one, three = (costs[estimate.kind(run.model_dump(mode="json"))].epoch for run in runs)
    # Of a batch of 16 images, 0.25 s each.
    steps = (one - plain) / (16 * 0.25)
    assert steps > 10 and steps == int(steps)
    assert three - plain == pytest.approx(3 * steps * 16 * 0.25)


def test_a_long_step_is_timed_with_a_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    run = parse(
        {
            "dataset": {"name": "fashion_mnist"},
            "model": {"name": "resnet20", "width": 8},
            "training": {"batch_size": 64},
        }
    )
    seen: list[int] = []
    monkeypatch.setattr("mixbench.experiments.manage.time_steps.LONG_STEP", 0.0)
    monkeypatch.setattr(
        "torch.nn.functional.cross_entropy",
        lambda logits, labels: seen.append(len(labels)) or logits.sum(),
    )
    (few,) = time_steps.timed([run], estimate.Where(False, "cpu: x", 1)).values()
    assert set(seen) == {time_steps.FEW_IMAGES}
    seen.clear()
    monkeypatch.setattr("mixbench.experiments.manage.time_steps.LONG_STEP", float("inf"))
    (whole,) = time_steps.timed([run], estimate.Where(False, "cpu: x", 1)).values()
    assert set(seen) == {time_steps.FEW_IMAGES, 64}
    # Of the same order: a few images use a machine less well.
    assert whole.epoch / 5 < few.epoch < whole.epoch * 10


def test_a_run_that_needs_another_begins_after_it() -> None:
    assert estimate.wall([5.0, 1.0, 1.0], 2) == 5.0
    assert estimate.wall([5.0, 1.0, 1.0], 2, {1: 0}) == 6.0
    assert estimate.wall([5.0, 1.0, 1.0], 3, {1: 0, 2: 1}) == 7.0
