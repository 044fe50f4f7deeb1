"""Tables and labels: what a sweep folder says, in rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mixbench.analysis.statistics.blocks import with_blocks
from mixbench.analysis.tables.labels import cell_labels, name_cells
from mixbench.analysis.tables.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.merge import flatten
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, config, grid, keys, write_sweep

NONE, MIXUP, CUTMIX, CUTOUT = METHODS[:4]


def labels(*configs: dict[str, Any]) -> list[str]:
    flat = [{k: v for k, v in flatten(c).items() if k != "seed"} for c in configs]
    return [label.text for label in name_cells(flat)]


def test_methods_are_called_by_their_names() -> None:
    # Parameters that one method has and another hasn't do not vary within a method.
    assert labels(*(config(method, 0) for method in (NONE, MIXUP, CUTMIX, CUTOUT))) == [
        "none",
        "mixup",
        "cutmix",
        "cutout",
    ]


def test_a_parameter_is_named_where_it_varies_within_a_method() -> None:
    found = labels(
        config(NONE, 0),
        config({**CUTMIX, "alpha": 0.2}, 0),
        config({**CUTMIX, "alpha": 1.0}, 0),
        config(MIXUP, 0),
    )
    assert found == ["none", "cutmix α=0.2", "cutmix α=1", "mixup"]


def test_booleans_and_words_as_parameters() -> None:
    found = labels(
        config({**CUTMIX, "per_sample": True}, 0),
        config(CUTMIX, 0),
        config({**CUTMIX, "placement": "inside"}, 0),
    )
    assert found == [
        "cutmix per_sample placement=clipped",
        "cutmix no per_sample placement=clipped",
        "cutmix no per_sample placement=inside",
    ]


def test_cells_without_a_method_are_named_once_beside_their_block() -> None:
    flat = [
        {
            "augmentation.name": "none",
            "dataset.train_size": size,
            "training.epochs": epochs,
            "training.validate_every": epochs // 5,
            "streams.unlabelled.algorithm": "fixmatch",
            "streams.unlabelled.augmentation.name": mixing,
        }
        for size, epochs in ((40, 250), (100, 100))
        for mixing in ("none", "cutmix")
    ]
    names = name_cells(flat)
    assert [name.text for name in names][::3] == [
        "train_size 40 · epochs 250 · fixmatch",
        "train_size 100 · epochs 100 · fixmatch cutmix",
    ]
    rows = [{"cell_key": n.text, "label": n.text, "method": "", "group": n.group} for n in names]
    baselines = {n.text: names[i // 2 * 2].text for i, n in enumerate(names)}
    blocks = with_blocks(pd.DataFrame(rows), baselines)
    assert list(blocks["series"]) == ["fixmatch", "fixmatch cutmix"] * 2
    # The interval of validation follows from the length in these cells; alone it is a difference.
    own = [{**flat[0], "training.validate_every": every} for every in (5, 50)]
    assert [name.text for name in name_cells(own)] == ["validate_every 5", "validate_every 50"]


def nested(name: str, *methods: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    common = {"per_sample": False, "pairing": "permute", **parameters}
    inner = [{"per_sample": common["per_sample"], "pairing": "permute", **m} for m in methods]
    return config({"name": name, **common, "methods": inner}, 0)


def test_methods_made_of_methods_are_called_by_what_differs_in_them() -> None:
    mixup, cutmix, cutout = {"name": "mixup", "alpha": 0.8}, {"name": "cutmix"}, {"name": "cutout"}
    found = labels(
        nested("choice", mixup, cutmix, weights=[]),
        nested("choice", {**mixup, "alpha": 0.2}, cutmix, weights=[1.0, 2.0]),
        nested("compose", cutmix, {**cutout, "size": 3}),
        nested("compose", mixup, {**cutout, "size": 8}),
        nested("compose", cutmix, {"name": "choice", "methods": [mixup, {**cutout, "size": 8}]}),
    )
    assert found == [
        "choice mixup α=0.8 or cutmix",
        "choice mixup α=0.2 or cutmix weights=1,2",
        "compose cutmix + cutout size=3",
        "compose mixup + cutout size=8",
        "compose cutmix + choice (mixup or cutout size=8)",
    ]


def test_what_methods_take_over_from_the_whole_goes_unsaid() -> None:
    mixup, cutmix = {"name": "mixup"}, {"name": "cutmix"}
    found = labels(
        nested("choice", mixup, cutmix), nested("choice", mixup, cutmix, per_sample=True)
    )
    assert found == ["choice no per_sample", "choice per_sample"]
    found = labels(
        nested("choice", mixup, {**cutmix, "per_sample": True}), nested("choice", mixup, cutmix)
    )
    assert found == ["choice mixup or cutmix per_sample", "choice mixup or cutmix"]
    assert labels(nested("compose", mixup), config(NONE, 0)) == ["compose", "none"]


def test_other_factors_follow_the_method() -> None:
    found = labels(
        config(NONE, 0), config(CUTMIX, 0), config(CUTMIX, 0, training__label_smoothing=0.1)
    )
    assert found == [
        "none · label_smoothing 0",
        "cutmix · label_smoothing 0",
        "cutmix · label_smoothing 0.1",
    ]


def test_a_sweep_of_another_factor_only_is_named_by_it() -> None:
    found = labels(*(config(CUTMIX, 0, training__epochs=epochs) for epochs in (10, 20)))
    assert found == ["epochs 10", "epochs 20"]


def test_a_single_cell_is_called_by_its_method() -> None:
    assert labels(config(CUTMIX, 0)) == ["cutmix"]


def test_what_a_data_set_or_model_implies_is_not_said() -> None:
    found = labels(
        config(NONE, 0),
        config(
            NONE,
            0,
            dataset__name="digits",
            dataset__image_size=8,
            training__crop_padding=0,
            training__flip=False,
        ),
        config(NONE, 0, model__name="timm/resnet18"),
        config(NONE, 0, model__width=32),
    )
    assert found == [
        "fashion_mnist · small_cnn · width default",
        "digits · small_cnn · width default",
        "fashion_mnist · timm/resnet18",
        "fashion_mnist · small_cnn · width 32",
    ]


def test_keys_of_the_same_name_are_told_apart() -> None:
    found = labels(
        config(NONE, 0),
        config(NONE, 0, training__batch_size=64),
        config(NONE, 0, evaluation__batch_size=64),
    )
    assert found[1] == "training.batch_size 64 · evaluation.batch_size 500"


def test_image_folders_of_the_same_name_are_told_apart() -> None:
    found = labels(
        config(NONE, 0, dataset__name="imagefolder:/a/flowers"),
        config(NONE, 0, dataset__name="imagefolder:/b/flowers"),
        config(NONE, 0, dataset__name="imagefolder:/b/birds"),
    )
    assert len(set(found)) == 3
    assert found[2] == "imagefolder:birds"


def test_labels_of_a_large_grid_are_unique_and_short() -> None:
    configs = [
        config(
            {**method, "prob": prob},
            0,
            training__label_smoothing=ls,
            model__width=width,
            training__epochs=epochs,
        )
        for method in METHODS
        for prob in (0.25, 0.5, 1.0)
        for ls in (0.0, 0.1)
        for width in (None, 32)
        for epochs in (10, 30)
    ]
    found = labels(*configs)
    assert len(set(found)) == len(configs)
    assert max(map(len, found)) < 80


def test_labels_by_cell_key() -> None:
    found = cell_labels({"a": config(NONE, 3), "b": config(CUTMIX, 3)})
    assert found == {"a": "none", "b": "cutmix"}


def test_runs_have_a_row_each_in_plan_order(full_sweep: SweepFolder) -> None:
    tables = load(full_sweep)
    runs = tables.runs
    assert list(runs["run_key"]) == [run.run_key for run in full_sweep.plan()]
    assert list(runs["label"][::5]) == [method["name"] for method in METHODS]
    assert set(runs["state"]) == {"done"}
    assert runs["test/accuracy"].dtype == "float64"
    assert runs["augmentation.alpha"].iloc[10] == 1.0
    assert runs["augmentation.alpha"].isna().sum() == 20
    assert runs["dataset.train_size"].iloc[0] == 2000
    assert runs["data.train"].iloc[0] == 1800
    assert runs["provenance.torch"].iloc[0] == "2.9.1"
    assert runs["timing.train_seconds"].iloc[0] == 24.1
    assert runs["data.classes"].iloc[0] == 10
    folder = full_sweep.plan()[7].folder
    result = folder.result()
    assert result is not None
    for name, value in result["metrics"].items():
        assert runs[name].iloc[7] == pytest.approx(value)


def test_curves_are_one_row_per_point(full_sweep: SweepFolder) -> None:
    tables = load(full_sweep)
    assert len(tables.occlusion) == 35 * 2 * 5
    assert len(tables.reliability) == 35 * 15
    assert tables.reliability.groupby("run_key")["count"].sum().eq(400).all()


def test_whole_numbers_stay_whole_in_the_csv(full_sweep: SweepFolder, tmp_path: Path) -> None:
    load(full_sweep).runs.to_csv(tmp_path / "runs.csv", index=False)
    back = pd.read_csv(tmp_path / "runs.csv", dtype=str)
    assert set(back["dataset.train_size"]) == {"2000"}
    assert set(back["training.nesterov"]) == {"True"}


def test_states_failures_and_undefined_metrics(tmp_path: Path) -> None:
    runs = grid([NONE, CUTMIX], range(3))
    broken = keys(runs[1])[0]
    sweep = write_sweep(
        tmp_path,
        "part",
        runs,
        failed={broken: "RuntimeError: out of memory\n  at line 3"},
        waiting=lambda run: run["seed"] == 2,
    )
    path = tmp_path / "part" / "runs" / keys(runs[0])[0] / "result.json"
    found = json.loads(path.read_text())
    found["metrics"]["test/ece"] = None
    path.write_text(json.dumps(found))
    tables = load(sweep)
    assert list(tables.runs["state"]) == ["done", "failed", "waiting", "done", "done", "waiting"]
    assert tables.runs["failure"].iloc[1] == "RuntimeError: out of memory"
    assert pd.isna(tables.runs["test/ece"].iloc[0])
    counts = tables.cells[["planned", "done", "failed", "running", "waiting"]]
    assert counts.to_numpy().tolist() == [[3, 1, 1, 0, 1], [3, 2, 0, 0, 1]]


def test_a_result_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    runs = grid([NONE], range(2))
    sweep = write_sweep(tmp_path, "torn", runs)
    (tmp_path / "torn" / "runs" / keys(runs[0])[0] / "result.json").write_text('{"metr')
    tables = load(sweep)
    assert list(tables.runs["state"]) == ["failed", "done"]
    assert "result.json" in tables.runs["failure"].iloc[0]


def test_an_empty_plan_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        load(write_sweep(tmp_path, "empty", []))


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (f"/{'home'}/anna/photos/leaves", "~/photos/leaves"),
        (f"/{'root'}/.cache/x.npz", "~/.cache/x.npz"),
        ("/usr/share/datasets", "/usr/share/datasets"),
        (None, None),
    ],
)
def test_whose_home_data_lie_in_is_not_told(
    tmp_path: Path, found: str | None, shown: str | None
) -> None:
    runs = grid([NONE], [0])
    sweep = write_sweep(tmp_path, "home", runs)
    place = sweep.path / "runs" / keys(runs[0])[0] / "result.json"
    result = json.loads(place.read_text())
    result["dataset"]["source"] = found
    place.write_text(json.dumps(result))
    assert load(sweep).runs["data.source"].tolist() == [shown]
