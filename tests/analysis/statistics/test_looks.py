"""Looks: what is decided when, and which cells go on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mixbench.analysis.statistics.blocks import with_blocks
from mixbench.analysis.statistics.declared import declare
from mixbench.analysis.statistics.looks import take_looks
from mixbench.analysis.statistics.metrics import metric_of
from mixbench.analysis.statistics.sequential import look_levels
from mixbench.experiments.design.decide import Decide
from mixbench.experiments.design.question import Question

ACCURACY = "test/accuracy"
LOOKS = (5, 10, 20)
DECIDE = Decide(Question(), LOOKS)


def cells(*names: str) -> pd.DataFrame:
    rows = [
        {"cell_key": name, "label": name, "method": name, "group": "", "augmentation.name": name}
        for name in names
    ]
    return with_blocks(pd.DataFrame(rows), dict.fromkeys(names, names[0]))


def values(
    gains: dict[str, float], n: int, sd: float = 0.004, seed: int = 0
) -> dict[tuple[str, str], dict[int, float | None]]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.8, 0.01, n)
    return {
        (name, ACCURACY): dict(enumerate(shared + gain + rng.normal(0, sd, n)))
        for name, gain in gains.items()
    }


def test_only_cells_of_undecided_contrasts_go_on() -> None:
    table = cells("none", "clear", "close")
    gains = {"none": 0.0, "clear": 0.05, "close": 0.004}
    found = values(gains, 5)
    looks = take_looks(DECIDE, table, found, "replicate")
    assert looks.taken == (5,) and looks.next_look == 10
    assert set(looks.cells) == {"none", "close"}
    assert looks.decisions["clear", "none"].look == 5
    assert looks.decisions["close", "none"].look is None
    # The look is a test at its own level, of all contrasts.
    level = look_levels(LOOKS)[0]
    alone = declare(Question(), table, found, metric_of(ACCURACY), "replicate", level=level)
    shown = [one.contrast.contrast.low for one in looks.decisions.values()]
    assert shown == [one.contrast.low for one in alone.contrasts]
    # A cell that is decided may stop; the others are looked at with ten replicates.
    found = values(gains, 12)
    found["clear", ACCURACY] = {r: found["clear", ACCURACY][r] for r in range(5)}
    looks = take_looks(DECIDE, table, found, "replicate")
    assert looks.taken == (5, 10) and looks.decisions["clear", "none"].look == 5
    assert set(looks.cells) <= {"none", "close"}


def test_a_look_waits_for_all_its_replicates() -> None:
    table = cells("none", "close")
    found = values({"none": 0.0, "close": 0.004}, 5)
    del found["close", ACCURACY][3]
    looks = take_looks(DECIDE, table, found, "replicate")
    assert (looks.taken, looks.next_look, dict(looks.decisions)) == ((), 5, {})
    assert set(looks.cells) == {"none", "close"}
    # After the last look nothing is asked for, decided or not.
    looks = take_looks(DECIDE, table, values({"none": 0.0, "close": 0.004}, 30), "replicate")
    assert looks.next_look is None


def test_looking_again_and_again_keeps_the_error() -> None:
    # No difference at all, and a margin that is too small for equivalence.
    decide = Decide(Question(margins={ACCURACY: 1e-6}), (5, 10, 20))
    table = cells("none", "a", "b")
    wrong = sum(
        any(
            one.look
            for one in take_looks(
                decide, table, values(dict.fromkeys(("none", "a", "b"), 0.0), 20, seed=seed), "r"
            ).decisions.values()
        )
        for seed in range(40)
    )
    # With 5%, 7 or more of 40 are seen in 0.3% of all trials.
    assert wrong < 7


@pytest.mark.parametrize("kind", ["best", "all pairs"])
def test_other_questions_end_too(kind: str) -> None:
    table = cells("none", "a", "b")
    gains = {"none": 0.0, "a": 0.05, "b": 0.1}
    looks = take_looks(Decide(Question(contrasts=kind), LOOKS), table, values(gains, 5), "r")
    assert looks.cells == () and looks.next_look is None
