"""Points in a training: how they are written, and the steps at which they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments.staging.moments import is_fixed, latest, parse, step_of, steps_of


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        (0, 0.0),
        (1, 1.0),
        (0.25, 0.25),
        ("0.5", 0.5),
        ("1e-1", 0.1),
        (".5", 0.5),
        ("epoch 10", "epoch 10"),
        ("epoch10", "epoch 10"),
        (" epoch  07 ", "epoch 7"),
        ("plateau", "plateau 3"),
        ("plateau 5", "plateau 5"),
        ("unfreeze 2", "unfreeze 2"),
        ("plateau by 0.5", "plateau 3 by 0.5"),
        ("plateau 2 by .5", "plateau 2 by 0.5"),
        ("plateau 4 by epoch 9", "plateau 4 by epoch 9"),
        ("plateau by 1", "plateau 3 by 1.0"),
    ],
)
def test_one_way_of_writing(given: Any, canonical: Any) -> None:
    made = parse(given)
    assert (made, type(made)) == (canonical, type(canonical))
    assert parse(made) == made


@pytest.mark.parametrize(
    "value",
    [
        -0.1,
        1.01,
        20,
        True,
        None,
        [],
        "",
        "half",
        "epoch",
        "epoch 0",
        "epoch -1",
        "epoch 1.5",
        "plateau 0",
        "unfreeze",
        "unfreeze 0",
        "1.5",
        "nan",
        float("nan"),
        float("inf"),
        "1e3",
        "plateau by",
        "plateau by plateau",
        "plateau by 2",
        "epoch 3 by 0.5",
        "unfreeze 1 by 0.5",
        "plateau by unfreeze 1",
        "by 0.5",
        "..",
        "plateau 3 by 0.5 by 0.6",
    ],
)
def test_what_is_no_moment(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a fraction from 0 to 1, ") as caught:
        parse(value)
    assert repr(value) in str(caught.value) and "\n" not in str(caught.value)


def test_fixed_moments_are_known_beforehand() -> None:
    assert [step_of(moment, 100, 10) for moment in (0.0, 0.25, 1.0, "epoch 3")] == [0, 25, 100, 30]
    assert [is_fixed(m) for m in (0.5, "epoch 3", "plateau 3", "unfreeze 1")] == [
        True,
        True,
        False,
        False,
    ]
    assert latest("plateau 3 by 0.5") == 0.5 and latest("plateau 3") is latest(0.3) is None


def plateau_by_hand(accuracies: list[float], patience: int, first_epoch: int) -> int | None:
    """The epoch at whose end the best is `patience` epochs old."""
    for end in range(first_epoch + 1, len(accuracies) + 1):
        seen = accuracies[first_epoch:end]
        if len(seen) - 1 - seen.index(max(seen)) >= patience:
            return end
    return None


@given(
    accuracies=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.6, 0.9]), max_size=12),
    patience=st.integers(1, 4),
    since=st.integers(0, 60),
)
def test_a_plateau_is_when_nothing_has_risen(
    accuracies: list[float], patience: int, since: int
) -> None:
    first = -(-since // 10)  # the first epoch that began at `since` or later
    by_hand = plateau_by_hand(accuracies, patience, first)
    expected = None if by_hand is None else 10 * by_hand
    found = step_of(f"plateau {patience}", 1000, 10, since=since, accuracies=accuracies)
    assert found == expected
    limited = step_of(f"plateau {patience} by 0.06", 1000, 10, since=since, accuracies=accuracies)
    assert limited == min(60, 1000 if expected is None else expected)
    # What was found stays: later epochs do not move it.
    later = step_of(f"plateau {patience}", 1000, 10, since=since, accuracies=[*accuracies, 1.0])
    assert found is None or later == found


def test_unfreezings() -> None:
    assert [step_of(f"unfreeze {n}", 100, 10, unfreezings=[7, None]) for n in (1, 2, 3)] == [
        7,
        None,
        None,
    ]


def test_moments_one_after_another() -> None:
    flat = [0.5, 0.5, 0.5, 0.5]
    assert steps_of(["plateau 1", "plateau 1", 0.9], 100, 10, flat) == [20, 40, 90]
    # What is not known keeps those after it unknown; what has a latest point does not.
    assert steps_of(["plateau 9", 0.9], 100, 10, flat) == [None, None]
    assert steps_of(["plateau 9 by 0.2", "plateau 1"], 100, 10, flat) == [20, 40]
