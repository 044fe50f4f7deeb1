"""Names of metrics, names of files, and the shape of every JSON that is written or printed."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from mixbench.experiments.evaluation.catalogue import MEASUREMENTS

from .expected import compare, files, read_json, read_lines, shape
from .program import ON_ONE_CORE, output_here

SWEEP = Path(__file__).parent / "small_sweep.yaml"
KINDS = ("pretraining", "plain", "staged", "transferred", "diverged")
"""The runs of that sweep, in the order of its plan."""
DONE = KINDS[:-1]
FEW = (
    "attack",
    "boundary",
    "corruption",
    "hiding",
    "localisation",
    "object_share",
    "overfitting",
    "patch",
    "shift",
    "smoothness",
)
"""Measurements that take a number of images."""


class Small(NamedTuple):
    """A sweep that was trained and measured, and the folder of the run of each kind."""

    folder: Path
    runs: dict[str, Path]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Train and measure a sweep with the command."""
    root = tmp_path_factory.mktemp("small")
    sweep = ("sweep", str(SWEEP), *ON_ONE_CORE, "--no-track", "--no-report")
    assert "4 of 5 runs done" in output_here(root / "runs", *sweep, status=1)
    settings = [f"{name}.images=50" for name in FEW]
    settings += [
        "object_share.pairs=50",
        "attack.steps=2",
        "patch.train_steps=2",
        "patch.steps=2",
        f"shift.dataset=imagefolder:{foreign_images(root)}",
    ]
    settings.append("shift.near=none")
    options = [part for setting in settings for part in ("--set", setting)]
    # Each run is alone in its cell.
    each = [name for name, one in MEASUREMENTS.items() if not one.of_cell]
    options += ["--only", ",".join(each)]
    measure = ("evaluate", "small", *options, *ON_ONE_CORE, "--no-track", "--no-report")
    assert "left out" not in output_here(root / "runs", *measure)
    folder = root / "runs" / "small"
    rows = read_lines(folder / "plan.jsonl")
    runs = {kind: folder / "runs" / row["run_key"] for kind, row in zip(KINDS, rows, strict=True)}
    return Small(folder, runs)


def foreign_images(root: Path) -> Path:
    """Make a folder of images to measure `shift` with, so that no other data set is needed."""
    folder = root / "images"
    for name in ("dark", "light"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), number + (200 if name == "light" else 0)).save(
                folder / name / f"{number}.png"
            )
    return folder


def test_names_of_metrics_in_results(small: Small) -> None:
    names = [sorted(read_json(small.runs[kind] / "result.json")["metrics"]) for kind in DONE]
    assert all(found == names[0] for found in names)
    compare("metrics_of_results", names[0])


def test_names_of_metrics_in_measurements(small: Small) -> None:
    names = [
        {
            path.stem: sorted(read_json(path)["metrics"])
            for path in sorted((small.runs[kind] / "evaluations").glob("*.json"))
        }
        for kind in DONE
    ]
    assert all(found == names[0] for found in names)
    compare("metrics_of_measurements", names[0])


def test_columns_of_epochs(small: Small) -> None:
    found = {
        kind: [list(row) for row in read_lines(folder / "metrics.jsonl")]
        for kind, folder in small.runs.items()
    }
    compare("columns_of_epochs", found)


def test_names_of_files(small: Small) -> None:
    found = {kind: files(folder) for kind, folder in small.runs.items()}
    others = [name for name in files(small.folder) if not name.startswith(("code/", "runs/"))]
    # The number of the process and the digest of the code are always others.
    found["sweep"] = sorted(re.sub(r"^workers/.+-\d+-\d+\.", "workers/NAME.", n) for n in others)
    copies = [path.name for path in (small.folder / "code").iterdir()]
    assert len(copies) == 1 and re.fullmatch("[0-9a-f]{16}", copies[0])
    compare("names_of_files", found)


def test_shapes_of_files(small: Small) -> None:
    every = [small.runs[kind] for kind in KINDS]
    done = [small.runs[kind] for kind in DONE]
    found = {
        "sweep.json": shape([read_json(small.folder / "sweep.json")]),
        "plan.jsonl": shape(read_lines(small.folder / "plan.jsonl")),
        "workers/NAME.json": shape(map(read_json, (small.folder / "workers").glob("*.json"))),
        "config.json": shape(read_json(run / "config.json") for run in every),
        "attempts.jsonl": shape(row for run in every for row in read_lines(run / "attempts.jsonl")),
        "claims/NUMBER.json": shape(read_json(run / "claims/000001.json") for run in every),
        "result.json": shape(read_json(run / "result.json") for run in done),
        "failure.json": shape([read_json(small.runs["diverged"] / "failure.json")]),
        "evaluations/claims/NUMBER.json": shape(
            read_json(run / "evaluations/claims/000001.json") for run in done
        ),
    }
    compare("shapes_of_files", {name: with_any_commit(paths) for name, paths in found.items()})


def test_shapes_of_measurements(small: Small) -> None:
    names = sorted(path.name for path in (small.runs["plain"] / "evaluations").glob("*.json"))
    found = {
        name: shape(read_json(small.runs[kind] / "evaluations" / name) for kind in DONE)
        for name in names
    }
    compare(
        "shapes_of_measurements", {name: with_any_commit(paths) for name, paths in found.items()}
    )


def with_any_commit(paths: dict[str, str]) -> dict[str, str]:
    """Allow for code that is no checkout of git: its commit is null."""
    unknown = {path: "null or string" for path in paths if path.rpartition(".")[2] == "commit"}
    return {**paths, **unknown}


def test_words_in_files(small: Small) -> None:
    found = {}
    for kind, folder in small.runs.items():
        (attempt,) = read_lines(folder / "attempts.jsonl")
        claim = read_json(folder / "claims/000001.json")
        found[kind] = {
            "outcome": attempt["outcome"],
            "released": claim["released"],
            "stage": claim["progress"]["stage"],
        }
        place = folder / "evaluations/claims/000001.json"
        if place.exists():
            claim = read_json(place)
            found[kind]["measurement"] = [claim["released"], claim["progress"]["stage"]]
    compare("words_in_files", found)


def test_shape_of_the_status(small: Small, tmp_path: Path) -> None:
    """One run is done, one failed, one seems to be running, and one waits for another."""
    shutil.copytree(small.folder, tmp_path / "small")
    kept = {kind: tmp_path / "small" / "runs" / run.name for kind, run in small.runs.items()}
    for kind in ("pretraining", "transferred"):
        shutil.rmtree(kept[kind])
    for name in ("result.json", "attempts.jsonl"):
        (kept["staged"] / name).unlink()
    place = kept["staged"] / "claims/000001.json"
    claim = read_json(place)
    del claim["released"]
    progress = {"stage": "training", "epoch": 1.5, "epochs": 2, "images_per_second": 1000.0}
    claim |= {"host": "elsewhere", "time": time.time(), "progress": progress}
    place.write_text(json.dumps(claim), encoding="utf-8")
    status: dict[str, Any] = json.loads(output_here(tmp_path, "status", "small", "--json"))
    rows = {row["state"]: row for row in status["runs"]}
    assert set(rows) == {"done", "failed", "running", "waiting"}
    found = {state: shape([row]) for state, row in sorted(rows.items())}
    found["pretraining"] = shape([status["runs"][0]])
    compare("shape_of_status", {"status": shape([{**status, "runs": []}]), "runs": found})
