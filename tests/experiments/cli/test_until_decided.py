"""`--until-decided`: which runs each look asks for, and a sweep that stops when it is decided."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixbench.experiments.cli.until_decided import Rounds, lines
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep.expand import Sweep, expand
from tests.support import running

METHODS = [{"name": "none"}, {"name": "mixup"}, {"name": "cutmix"}]


def spec(**parts: Any) -> dict[str, Any]:
    return {
        "name": "decided",
        "fixed": {
            "dataset": {"name": "digits", "train_size": 200, "validation_size": 200},
            "model": {"name": "small_cnn", "width": 4},
            "training": {"epochs": 1, "batch_size": 64},
            "evaluation": {"occlusion": {"images": 50, "fractions": [0.5]}},
        },
        "grid": {"augmentation": METHODS},
        "replicates": 3,
        "decide": {"looks": [3, 6, 9]},
        **parts,
    }


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def counts(sweep: Sweep) -> dict[str, int]:
    return dict(Counter(run.augmentation["name"] for run in sweep.runs))


def finish(folder: SweepFolder, gains: dict[str, float]) -> None:
    """Write results with these gains, and a spread that is the same for all methods."""
    for run in folder.plan():
        method, replicate = run.config["augmentation"]["name"], run.config["replicate"]
        wiggle = ((replicate * 7 + len(method) * 3) % 5 - 2) * 0.002
        run.folder.path.mkdir(parents=True, exist_ok=True)
        result = {
            "run_key": run.run_key,
            "metrics": {"test/accuracy": 0.8 + gains[method] + wiggle},
            "dataset": {},
        }
        (run.folder.path / "result.json").write_text(json.dumps(result))


def planned(sweep: Sweep) -> SweepFolder:
    return SweepFolder.create(
        sweep.name, sweep.description, sweep.spec, sweep.rows(), None, sweep.pretraining
    )


def test_only_undecided_contrasts_get_more_replicates() -> None:
    wanted = expand(spec())
    rounds = Rounds(wanted)
    assert counts(rounds.plan()) == {"none": 3, "mixup": 3, "cutmix": 3}
    assert set(rounds.plan().keys) == set(wanted.keys)
    folder = planned(rounds.plan())
    assert not rounds.goes_on(folder)  # nothing is done yet
    gains = {"none": 0.0, "mixup": 0.003, "cutmix": 0.1}
    finish(folder, gains)
    assert rounds.goes_on(folder)
    # CutMix is decided at once; MixUp and what it is compared with go on.
    assert counts(rounds.plan()) == {"none": 6, "mixup": 6, "cutmix": 3}
    assert lines(folder) == [
        "look at 3 replicates: 1 of 2 decided (1 better)",
        "2 configurations of undecided contrasts: up to 6 replicates",
    ]
    folder = planned(rounds.plan())
    # A second command goes on where the first was.
    assert counts(Rounds(wanted).plan()) == {"none": 6, "mixup": 6, "cutmix": 3}
    finish(folder, gains)
    rounds.goes_on(folder)
    folder = planned(rounds.plan())
    finish(folder, gains)
    assert not rounds.goes_on(folder)
    assert counts(rounds.plan())["cutmix"] == 3
    assert max(counts(rounds.plan()).values()) <= 9


def test_what_can_not_be_looked_at_is_one_line() -> None:
    without = spec()
    del without["decide"]
    with pytest.raises(UserError, match="the sweep has no `decide`"):
        Rounds(expand(without))
    with pytest.raises(UserError, match=r"the last look is at 9 replicates, but .* lists 4"):
        Rounds(expand(spec(replicates=[0, 1, 2, 5])))


def test_a_real_sweep_stops_when_it_is_decided(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "decided.yaml"
    # So large a margin that all is equivalent at the first look.
    decide = {"looks": [2, 4], "metric": "test/nll", "margin": 40.0}
    path.write_text(yaml.safe_dump(spec(decide=decide, replicates=2)))
    options = ("--until-decided", "--workers", "2", "--device", "cpu", "--no-track")
    done = running.mixbench("sweep", str(path), *options)
    assert done.returncode == 0, done.stderr
    assert "look at 2 replicates: 2 of 2 decided (2 equivalent)" in done.stdout
    assert "6 of 6 runs done" in done.stdout and "12" not in done.stdout.split("look at")[1]
    assert "Decided at 2 replicates" in (runs / "decided" / "report" / "report.md").read_text()
    refused = running.mixbench_here("sweep", "demo", "--until-decided")
    assert refused.returncode == 2 and "no `decide`" in refused.stderr
