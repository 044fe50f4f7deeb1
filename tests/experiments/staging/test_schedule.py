"""The method of every step, against schedules that are written down by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments.errors import UserError
from mixbench.experiments.manage.timeline import timeline
from mixbench.experiments.staging.named import NAMED
from mixbench.experiments.staging.schedule import Schedule
from mixbench.experiments.training.schedules import TrainingSchedules
from tests.experiments.staging.test_phases import UNFROZEN, parsed

EPOCHS, PER_EPOCH = 20, 10
STEPS = EPOCHS * PER_EPOCH


def course(staging: Any, augmentation: Any = "cutmix", **parts: Any) -> TrainingSchedules:
    return TrainingSchedules(parsed(staging, augmentation, EPOCHS, **parts), STEPS, PER_EPOCH)


def probabilities(made: TrainingSchedules) -> list[float]:
    mixes = [made.method(step) for step in range(STEPS)]
    return [0.0 if mix.name == "none" else mix.prob for mix in mixes]


def even(step: int) -> bool:
    return step // PER_EPOCH % 2 == 0


BY_HAND: dict[str, Callable[[int], float]] = {
    "always": lambda _: 1,
    "never": lambda _: 0,
    "first_50": lambda step: step < 100,
    "first_75": lambda step: step < 150,
    "first_90": lambda step: step < 180,
    "last_50": lambda step: step >= 100,
    "last_25": lambda step: step >= 150,
    "alternate": even,
    "linear_up": lambda step: step / 199,
    "linear_down": lambda step: 1 - step / 199,
    "hesitate": lambda step: (
        1 if step < 120 else even(step) if step < 180 else 1 - (step - 180) / 19
    ),
    # Without a plateau: at half.
    "cautious": lambda step: 0 if step < 100 else 0.3 if step < 150 else 0.5,
}


@pytest.mark.parametrize("own", [1.0, 0.5])
@pytest.mark.parametrize("name", NAMED)
def test_named_schedules_by_hand(name: str, own: float) -> None:
    found = probabilities(course(name, {"name": "cutmix", "prob": own}))
    scale = 1 if name == "cautious" else own
    assert found == pytest.approx([scale * BY_HAND[name](step) for step in range(STEPS)])
    assert set(BY_HAND) == set(NAMED)


def test_small_boxes_where_cautious_mixes() -> None:
    made = course("cautious")
    assert made.method(99).name == "none"
    areas = [getattr(made.method(step), "max_area", None) for step in (100, 149, 150, 199)]
    assert areas == [0.2] * 4


@given(
    first=st.floats(0, 1),
    last=st.floats(0, 1),
    shape=st.sampled_from(["linear", "cosine"]),
    begin=st.integers(0, 15),
    length=st.integers(1, 5),
)
def test_a_change_goes_from_exactly_its_first_to_exactly_its_last_value(
    first: float, last: float, shape: str, begin: int, length: int
) -> None:
    bounds = {"prob": {"from": first, "to": last, "shape": shape}}
    phase = {"from": begin / EPOCHS, "to": (begin + length) / EPOCHS, **bounds}
    found = probabilities(course({"phases": [phase]}))
    start, end = begin * PER_EPOCH, (begin + length) * PER_EPOCH
    assert (found[start], found[end - 1]) == (first, last)
    assert not any(found[:start]) and not any(found[end:])
    within = found[start:end]
    assert within in (sorted(within), sorted(within, reverse=True))
    for number, value in enumerate(within):
        share = number / (len(within) - 1)
        if shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        assert value == pytest.approx(first + (last - first) * share)


def test_a_change_in_a_phase_of_one_step() -> None:
    made = course({"phases": [{"from": 0.5, "to": 0.505, "prob": {"from": 0.2}}]})
    assert [prob for prob in probabilities(made) if prob] == [0.2]


def test_several_values_change_at_once_and_the_rest_stays() -> None:
    made = course(
        {"phases": [{"alpha": {"to": 0.2}, "max_area": {"from": 0.5, "to": 0.1}}]},
        {"name": "cutmix", "placement": "inside", "per_sample": True},
    )
    first, middle, last = (made.method(step) for step in (0, 100, 199))
    assert (first.alpha, first.max_area) == (1.0, 0.5)  # type: ignore[attr-defined]
    assert middle.alpha == pytest.approx(1 - 0.8 * 100 / 199)  # type: ignore[attr-defined]
    assert (last.alpha, last.max_area) == (0.2, 0.1)  # type: ignore[attr-defined]
    for mix in (first, middle, last):
        assert (mix.name, mix.placement, mix.per_sample) == ("cutmix", "inside", True)  # type: ignore[attr-defined]


def test_every_counts_epochs_from_the_phases_first() -> None:
    made = course({"phases": [{"from": 0.225, "to": 0.9, "every": 3}]})
    mixed = {step // PER_EPOCH for step, prob in enumerate(probabilities(made)) if prob}
    # The phase begins in the midst of epoch 4 (from 0).
    assert mixed == {4, 7, 10, 13, 16}
    assert probabilities(made)[40:50] == [0.0] * 5 + [1.0] * 5


def test_another_method_and_a_gap() -> None:
    made = course(
        {"phases": [{"to": 0.25, "method": "mixup"}, {"from": 0.5, "prob": 0.5}]}, "ricap"
    )
    names = [made.method(step).name for step in range(STEPS)]
    assert names == ["mixup"] * 50 + ["none"] * 50 + ["ricap"] * 100
    assert [made.phase(step) for step in (0, 49, 50, 99, 100, 199)] == [1, 1, 0, 0, 2, 2]


def test_of_a_nested_method_the_whole_is_staged() -> None:
    made = course({"phases": [{"prob": {"to": 0.1}}]}, "choice")
    assert made.method(199).prob == 0.1
    assert [one.prob for one in made.method(199).methods] == [1.0, 1.0]  # type: ignore[attr-defined]


RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
CAUTIOUS: list[tuple[list[float], int]] = [
    ([0.5, 0.5, 0.5, 0.5], 40),
    ([0.1, 0.2, 0.2, 0.1, 0.2], 50),
    (RISING + [0.9] * 3, 100),
    ([0.5, 0.5, 0.5], 100),
    ([], 100),
]


@pytest.mark.parametrize(("accuracies", "begins"), CAUTIOUS)
def test_a_plateau_begins_a_phase_or_its_latest_point_does(
    accuracies: list[float], begins: int
) -> None:
    """Epoch by epoch, as in a training; what was is never changed by what comes."""
    made = course("cautious")
    found: list[float] = []
    for epoch in range(EPOCHS):
        steps = range(epoch * PER_EPOCH, (epoch + 1) * PER_EPOCH)
        mixes = [made.method(step) for step in steps]
        found += [0.0 if mix.name == "none" else mix.prob for mix in mixes]
        made.observe(accuracies[epoch] if epoch < len(accuracies) else 1 + epoch)
        assert probabilities(made)[: len(found)] == found
    assert found == [0.0] * begins + [0.3] * (150 - begins) + [0.5] * 50
    # A training that goes on knows no more than the accuracies.
    again = course("cautious")
    again.restore(made.accuracies)
    assert probabilities(again) == found


def test_a_phase_that_ends_at_a_plateau_ends_at_the_latest_where_the_next_begins() -> None:
    made = course({"phases": [{"to": "plateau 1"}, {"from": 0.5, "prob": {"from": 0.0}}]})
    assert probabilities(made)[:101] == [1.0] * 100 + [0.0]
    made.restore([0.5, 0.5])
    assert probabilities(made)[:101] == [1.0] * 20 + [0.0] * 81
    # Two plateaus: the second is looked for in the epochs after the first.
    made = course(
        {"phases": [{"to": "plateau 1"}, {"to": "plateau 1", "prob": 0.5}, {"prob": 0.2}]}
    )
    made.restore([0.5, 0.5, 0.4, 0.4])
    assert probabilities(made) == [1.0] * 20 + [0.5] * 20 + [0.2] * 160
    # Written twice it is one moment.
    made = course({"phases": [{"to": "plateau 1"}, {"from": "plateau 1", "prob": 0.5}]})
    made.restore([0.5, 0.5])
    assert probabilities(made) == [1.0] * 20 + [0.5] * 180


def test_a_change_that_a_plateau_cuts_off_does_not_know_it_beforehand() -> None:
    staging = {"phases": [{"to": "plateau 1", "prob": {"from": 0.0}}, {"from": 0.5, "prob": 0.1}]}
    made = course(staging)
    found: list[float] = []
    for _ in range(EPOCHS):
        # As a training asks, epoch by epoch.
        found += probabilities(made)[len(found) : len(found) + PER_EPOCH]
        made.observe(0.5)
    assert found[:20] == pytest.approx([step / 99 for step in range(20)])
    assert found[20:100] == [0.0] * 80 and found[100:] == [0.1] * 100


def test_phases_tied_to_unfreezing() -> None:
    staging = {"phases": [{"from": "unfreeze 1", "prob": 0.5}]}
    made = course(staging, transfer=UNFROZEN)
    assert probabilities(made) == [0.0] * 100 + [0.5] * 100
    at_plateau = {"freeze": "all", "unfreeze": [{"at": "plateau 1", "down_to": "all"}]}
    made = course(staging, transfer=at_plateau)
    assert probabilities(made) == [0.0] * 200
    made.restore([0.5, 0.5])
    assert probabilities(made) == [0.0] * 20 + [0.5] * 180


def test_what_only_the_training_knows_is_checked_when_it_begins() -> None:
    gradual = {"transfer": {"freeze": "all", "unfreeze": "gradual"}}
    made = parsed({"phases": [{"from": "unfreeze 9"}]}, **gradual)
    with pytest.raises(UserError, match=r"phases\[0\].from: got 'unfreeze 9', expected at most"):
        TrainingSchedules(made, STEPS, PER_EPOCH, [0.2, 0.4])
    made = parsed({"phases": [{"from": 0.5, "to": 0.53}]}, epochs=4)
    with pytest.raises(UserError, match="has none of the training's 4 steps"):
        TrainingSchedules(made, 4, 1)


def test_the_deepest_of_all_phases() -> None:
    deep = {"method": {"name": "manifold_mixup", "depths": [0, 3]}}
    for phases, deepest in (([{"to": 0.5}, deep], 3), ([{"to": 0.5}], 2), ([], 0)):
        made = parsed({"phases": phases}, "manifold_mixup")
        assert Schedule(made.augmentation, made.phases, 1, 1).deepest == deepest
    plain = parsed(None, "manifold_mixup")
    assert Schedule(plain.augmentation, None, 1, 1).deepest == 2


def test_without_staging_it_is_the_very_same_method() -> None:
    made = course(None)
    assert all(made.method(step) is made.method(0) for step in range(STEPS))
    assert made.entered(0) is None and not made.staged
    staged = course("first_50")
    assert all(staged.method(step) is staged.method(0) for step in range(100))


def test_a_line_for_every_phase_that_begins() -> None:
    made = course({"phases": [{"to": 0.25}, {"from": 0.5, "to": 0.75}, {"prob": 0.5}]})
    lines = [(step, made.entered(step)) for step in range(STEPS)]
    assert [line for line in lines if line[1]] == [
        (0, "staging: phase 1 of 3"),
        (50, "staging: outside of all phases, nothing is mixed"),
        (100, "staging: phase 2 of 3"),
        (150, "staging: phase 3 of 3"),
    ]


# As it is planned.


def test_the_timeline_has_a_row_for_every_epoch() -> None:
    hesitating = timeline(parsed("hesitate", {"name": "cutmix", "alpha": 0.5}))
    assert [row["epoch"] for row in hesitating] == list(range(1, 21))
    assert [row["prob"] for row in hesitating] == pytest.approx(
        [1] * 12 + [1, 0, 1, 0, 1, 0] + [0.75, 0.25], abs=0.01
    )
    assert [row["phase"] for row in hesitating] == [1] * 12 + [2] * 6 + [3] * 2
    assert {row["method"] for row in hesitating[:12]} == {"cutmix"}
    assert hesitating[0] == {
        "epoch": 1,
        "phase": 1,
        "method": "cutmix",
        "prob": 1.0,
        "alpha": 0.5,
        "min_area": 0.0,
        "max_area": 1.0,
        "until_plateau": False,
    }
    assert hesitating[13] | {"epoch": 0, "phase": 0} == {
        "epoch": 0,
        "phase": 0,
        "method": "none",
        "prob": 0.0,
        "alpha": None,
        "min_area": None,
        "max_area": None,
        "until_plateau": False,
    }
    assert [row["max_area"] for row in timeline(parsed("first_50", "mixup"))] == [None] * 20
    assert [row["phase"] for row in timeline(parsed("last_50"))] == [None] * 10 + [1] * 10
    assert [row["phase"] for row in timeline(parsed(None))] == [1] * 20


def test_the_timeline_says_what_a_plateau_ends() -> None:
    rows = timeline(parsed("cautious"))
    assert [row["until_plateau"] for row in rows] == [True] * 10 + [False] * 10
    assert [row["prob"] for row in rows] == [0.0] * 10 + [0.3] * 5 + [0.5] * 5
    staging = {"phases": [{"from": "unfreeze 1", "prob": 0.5}]}
    rows = timeline(parsed(staging, transfer=UNFROZEN))
    assert [row["until_plateau"] for row in rows] == [False] * 20
    assert [row["prob"] for row in rows] == [0.0] * 10 + [0.5] * 10
    gradual = {"freeze": "all", "unfreeze": "gradual"}
    assert timeline(parsed(staging, transfer=gradual))[0]["until_plateau"]


def test_the_timeline_needs_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from mixbench.experiments.config import resolve\n"
        "from mixbench.experiments.manage.timeline import timeline\n"
        "timeline(resolve.parse({'dataset': {'name': 'digits'}, 'augmentation': 'cutmix', "
        "'staging': 'cautious'})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_with_a_probability_of_0_nothing_is_drawn() -> None:
    assert course("linear_down").method(199).name == "none"
    assert course({"phases": [{"to": 0.5, "prob": 0}]}).method(0).name == "none"
