"""MLflow's view of runs with schedules and with weights that were trained before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from mixbench.experiments import tracking
from mixbench.experiments.store.files import atomic_write
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking.parameters import MAX_PARAM, Plan
from tests.support import tracking_fixtures as made

CUTMIX = {"name": "cutmix", "alpha": 1.0}
FIRST_50 = {"name": "first_50", "phases": [{"from": 0.0, "to": 0.5}]}
OWN = {"name": None, "phases": [{"from": 0.0, "to": 0.6}, {"from": 0.6, "to": "epoch 27"}]}
LONG = {
    "name": None,
    "phases": [{"from": n / 400, "to": (n + 1) / 400, "prob": n / 400} for n in range(400)],
}
PRETRAINED = f"{9:016x}"


def planned(number: int, cell: str = "", **sections: Any) -> PlannedRun:
    config = {
        "dataset": {"name": "fashion_mnist"},
        "augmentation": CUTMIX,
        "seed": 0,
        "staging": None,
        "transfer": None,
        **sections,
    }
    return PlannedRun(str(number), cell or str(number), config, RunFolder(Path(str(number))))


def test_names_and_parameters_say_the_schedule() -> None:
    plan = Plan([planned(0), planned(1, staging=FIRST_50), planned(2, staging=OWN)])
    assert [plan.name(str(n)) for n in range(3)] == [
        "cutmix always seed 0",
        "cutmix first_50 seed 0",
        "cutmix custom phases=0-0.6+0.6-epoch_27 seed 0",
    ]
    assert [plan.params(str(n))["staging.name"] for n in range(3)] == [
        "always",
        "first_50",
        "custom",
    ]
    assert plan.params("0")["staging.phases"] == "-"
    assert "staging" not in plan.params("0") and "transfer" not in plan.params("0")


def test_names_say_what_a_run_starts_from() -> None:
    start = {"weights": f"cell:{PRETRAINED}", "freeze": "all"}
    plan = Plan(
        [
            planned(9, PRETRAINED, dataset={"name": "digits"}),
            planned(0),
            planned(1, transfer=start),
            planned(2, transfer={"weights": "file:/far/away/b0.safetensors", "freeze": None}),
            planned(3, transfer={"weights": "efficientnet_lite0", "freeze": 2}),
        ]
    )
    assert [plan.name(str(n)) for n in range(4)] == [
        "cutmix fashion_mnist seed 0",
        "cutmix fashion_mnist pretrained on digits freeze=all seed 0",
        "cutmix fashion_mnist pretrained b0.safetensors seed 0",
        "cutmix fashion_mnist pretrained efficientnet_lite0 freeze=2 seed 0",
    ]


def test_without_either_nothing_is_said() -> None:
    plan = Plan([planned(0)])
    assert plan.name("0") == "cutmix seed 0"
    assert not [key for key in plan.params("0") if key.startswith(("staging", "transfer"))]


def test_what_was_mixed_is_there_and_the_folders_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    runs = []
    for number, (staging, transfer) in enumerate(
        [(None, None), (FIRST_50, None), (LONG, {"weights": f"cell:{0:016x}", "freeze": "all"})]
    ):
        config = {**made.config(CUTMIX, 0, 3), "staging": staging, "transfer": transfer}
        runs.append((f"{number:016x}", f"{number:016x}", config))
    sweep = SweepFolder.create(
        "study", "", {"name": "study", "seeds": [0]}, runs, None, pretraining=[f"{0:016x}"]
    )
    for run in sweep.plan():
        made.finish(run)
        place = run.folder.path / "metrics.jsonl"
        rows = [json.loads(line) for line in place.read_text().splitlines()]
        for row in rows if run.config["staging"] else []:
            mixed = row["epoch"] < 3
            row |= {"staging/phase": int(mixed), "mix/prob": 0.5 * mixed}
            row |= {"mix/lambda": 0.6, "mix/area": 0.4} if mixed else {}
        atomic_write(place, "".join(f"{json.dumps(row)}\n" for row in rows))
    uri = tracking.project(sweep).uri
    assert tracking.verify(sweep).equal
    client = MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "study"]
    found = {
        run.data.tags.get("run_key"): run for run in client.search_runs([experiment.experiment_id])
    }
    staged = found[f"{1:016x}"]
    history = client.get_metric_history(staged.info.run_id, "mix/prob")
    assert [point.value for point in history] == [0.5, 0.5, 0.0]
    assert len(client.get_metric_history(staged.info.run_id, "mix/lambda")) == 2
    assert not [key for key in found[f"{0:016x}"].data.metrics if key == "mix/prob"]
    assert found[f"{0:016x}"].data.tags["pretraining"] == "true"
    assert "pretraining" not in staged.data.tags
    # Too long for a parameter: it ends early, and the run's config.json has all of it.
    cut = found[f"{2:016x}"].data.params["staging.phases"]
    assert len(cut) == MAX_PARAM and cut.startswith('[{"from": 0.0')
    listed = {file.path for file in client.list_artifacts(found[f"{2:016x}"].info.run_id)}
    assert "config.json" in listed
