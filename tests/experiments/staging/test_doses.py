"""`staging: {match_dose, shape}`: the same amount of mixing at different times."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixbench import augmentations
from mixbench.analysis.tables.labels import cell_labels
from mixbench.experiments.cli import main
from mixbench.experiments.config import resolve
from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.doses import DOSE_SHAPES, Dose
from mixbench.experiments.staging.phases import resolve_phases
from mixbench.experiments.staging.schedule import Schedule
from mixbench.experiments.staging.spans import Length
from mixbench.experiments.sweep.expand import expand
from tests.experiments.staging.test_phases import parsed, raw
from tests.experiments.staging.test_training import PER_SAMPLE, configured, digits, within
from tests.experiments.training.test_loop import trained

__all__ = ["digits"]

CUTMIX = {"name": "cutmix", **augmentations.resolve("cutmix", {})}


def probabilities(
    dose: float, shape: str, epochs: int, per_epoch: int, augmentation: dict[str, Any] = CUTMIX
) -> list[float]:
    """Of mixing in each step; UserError where the training is too short for the dose."""
    found = resolve_phases(Dose(dose, shape), None, augmentation, Length(epochs, per_epoch, ()))
    schedule = Schedule(augmentation, found and found.phases, epochs * per_epoch, per_epoch)
    methods = [schedule.method(step, (), ()) for step in range(epochs * per_epoch)]
    return [0.0 if method.name == "none" else method.prob for method in methods]


@given(
    dose=st.one_of(st.floats(0.01, 1), st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])),
    shape=st.sampled_from(DOSE_SHAPES),
    epochs=st.integers(1, 40),
    per_epoch=st.integers(1, 12),
    own=st.sampled_from([1.0, 0.5, 0.3]),
)
@settings(max_examples=300, deadline=None)
def test_a_dose_is_met_within_half_a_step(
    dose: float, shape: str, epochs: int, per_epoch: int, own: float
) -> None:
    """Whatever the length; only a training in which a part would be too short is refused."""
    steps = epochs * per_epoch
    parts = min(dose, 1 - dose, *[abs(2 * dose - 1)] * ("ramp" in shape))
    units = epochs if shape == "alternate" else steps
    try:
        found = probabilities(dose, shape, epochs, per_epoch, {**CUTMIX, "prob": own})
    except UserError:
        assert shape != "constant" and units * parts <= 1.5
        return
    assert math.fsum(found) / own == pytest.approx(dose * steps, abs=0.5 + 1e-9)
    assert min(found) >= 0 and max(found) <= own


@pytest.mark.parametrize(
    ("dose", "shape", "expected"),
    [
        (0.25, "constant", [0.25] * 16),
        (0.25, "early", [1.0] * 4 + [0.0] * 12),
        (0.25, "late", [0.0] * 12 + [1.0] * 4),
        (0.25, "ramp_up", [0.5 * step / 15 for step in range(16)]),
        (0.25, "ramp_down", [0.5 * (15 - step) / 15 for step in range(16)]),
        (0.75, "ramp_up", [step / 7 for step in range(8)] + [1.0] * 8),
        (0.75, "ramp_down", [1.0] * 8 + [(7 - step) / 7 for step in range(8)]),
        (0.25, "alternate", ([0.0] * 2 + [1.0] * 2 + [0.0] * 4) * 2),
        (0.5, "alternate", ([1.0] * 2 + [0.0] * 2) * 4),
        (0.75, "alternate", ([1.0] * 4 + [0.0] * 2 + [1.0] * 2) * 2),
        # 2.5 epochs of eight: two epochs, and a step more than the second.
        (0.3125, "alternate", [0.0] * 2 + [1.0] * 2 + [0.0] * 6 + [1.0] * 3 + [0.0] * 3),
    ],
)
def test_shapes_by_hand(dose: float, shape: str, expected: list[float]) -> None:
    assert probabilities(dose, shape, 8, 2) == pytest.approx(expected)
    half = probabilities(dose, shape, 8, 2, {**CUTMIX, "prob": 0.5})
    assert half == pytest.approx([value / 2 for value in expected])


def test_the_same_phases_are_the_same_run_and_a_dose_has_a_name_of_its_own() -> None:
    """A dose of 1 is no staging, in every shape; a method that mixes nothing has none either."""
    for shape, dose, name in (
        ("early", 0.75, "first_75"),
        ("late", 0.5, "last_50"),
        ("ramp_down", 0.5, "linear_down"),
        ("alternate", 0.5, "alternate"),
    ):
        made = parsed({"match_dose": dose, "shape": shape})
        assert made.run_key == parsed(name).run_key and made.staging is not None
        assert made.staging.name == f"dose {dose} {shape}"
        again = resolve.parse(json.loads(json.dumps(made.model_dump(mode="json"))))
        assert again == made
    always = parsed(None)
    for shape in DOSE_SHAPES:
        assert parsed({"match_dose": 1, "shape": shape}).run_key == always.run_key
        assert parsed({"match_dose": 0.1, "shape": shape}, "none", 3).staging is None
    constant = parsed({"match_dose": "5e-1"}).staging
    assert constant is not None and constant.shape == "constant"
    assert "match_dose" not in parsed("first_50").model_dump(mode="json")["staging"]


def test_a_grid_of_doses_and_shapes() -> None:
    spec = {
        "name": "dose",
        "fixed": {key: value for key, value in raw(None).items() if key != "staging"},
        "grid": {"staging.match_dose": [0.25, 0.75], "staging.shape": list(DOSE_SHAPES)},
        "include": [{"augmentation": "none"}, {"augmentation": "cutmix"}],
        "exclude": [{"staging.match_dose": 0.25, "staging.shape": "alternate"}],
    }
    rows = {cell: config for _, cell, config in expand(spec).rows()}
    labels = list(cell_labels(rows).values())
    assert labels[:2] == ["cutmix · dose 0.25 constant", "cutmix · dose 0.25 early"]
    assert labels[-2:] == ["none", "cutmix · staging always"] and len(set(labels)) == 13


@pytest.mark.parametrize(
    ("staging", "expected"),
    [
        ({"match_dose": 1.5}, "staging.match_dose: got 1.5, expected a number above 0 and at most"),
        ({"match_dose": 0}, "at most 1, the share of what the method does when it mixes in every"),
        ({"match_dose": -0.5}, "staging.match_dose: got -0.5, expected a number above 0"),
        ({"match_dose": "half"}, "staging.match_dose: got 'half', expected a number"),
        ({"shape": "late"}, "staging: got shape 'late' without match_dose, expected both"),
        ({"name": "first_50", "shape": "late"}, "got shape 'late' without match_dose"),
        (
            {"match_dose": 0.5, "shape": "ramp_upp"},
            "staging.shape: unknown shape of a dose 'ramp_upp'; did you mean 'ramp_up'?",
        ),
        ({"match_dose": 0.5, "name": "last_50"}, "match_dose beside the name 'last_50'"),
        ({"match_dose": 0.5, "phases": [{"to": 0.4}]}, "match_dose beside phases"),
        ({"match_dose": 0.001, "shape": "late"}, "got 0.001 with shape 'late', expected a dose of"),
        ({"match_dose": 0.05, "shape": "alternate"}, "expected at least 31 epochs"),
        ({"match_dos": 0.5}, "unknown key of staging 'match_dos'; did you mean 'match_dose'?"),
    ],
)
def test_bad_doses_in_one_line(staging: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(staging)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_trainings_realise_the_same_dose(tmp_path: Path, digits: Any) -> None:
    """The mean of (1 - λ), λ ~ U(0, 1), over half of 180 images in each of 6 epochs: 1/4."""
    doses = {}
    for shape in ("early", "ramp_down", "alternate"):
        made = configured({"match_dose": 0.5, "shape": shape}, PER_SAMPLE)
        doses[shape] = trained(tmp_path / shape, digits, made)[1]["dose"]
    assert all(within(dose, 0.25, 0.33, 6 * 180) for dose in doses.values()), doses


def test_a_preview_of_a_dose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("late.yaml").write_text("match_dose: 0.5\nshape: late\n")
    assert main(["preview", "cutmix", "--staging", "late.yaml"]) == 0
    assert Path("preview_staging.png").is_file()
    Path("late.yaml").write_text("match_dose: 0.5\nshape: lat\n")
    assert main(["preview", "cutmix", "--staging", "late.yaml"]) == 2
    assert "did you mean 'late'?" in capsys.readouterr().err
