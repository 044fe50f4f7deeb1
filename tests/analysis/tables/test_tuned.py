"""Cells whose setting is chosen: one name whatever was chosen, one baseline, and true settings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixbench.analysis.recommend.settings import settings_of
from mixbench.analysis.statistics.baselines import assign_baselines
from mixbench.analysis.tables.labels import name_cells, setting_text


def cell(method: str, tune: str | None = None, **changes: Any) -> dict[str, Any]:
    marked = {} if tune is None else {"augmentation.tune": tune}
    return {
        "augmentation.name": method,
        "augmentation.prob": 1.0,
        **marked,
        "training.learning_rate": 0.1,
        **{f"augmentation.{key}": value for key, value in changes.items()},
    }


def test_what_was_chosen_is_no_part_of_a_name() -> None:
    """In a table of runs the cells have what was chosen; the names are those of before."""
    names = name_cells(
        [
            cell("none"),
            cell("cutmix", "tuned", prob=0.25, alpha=0.2),
            cell("cutmix", "default", alpha=1.0),
            cell("mixup", "tuned", alpha=4.0),
        ]
    )
    texts = [name.text for name in names]
    assert texts == ["none", "cutmix tuned", "cutmix default", "mixup tuned"]
    # What else differs between cells that are tuned is told.
    placed = [
        cell("cutmix", part, prob=prob, placement=placement)
        for placement in ("clipped", "inside")
        for part, prob in (("tuned", 0.25), ("default", 1.0))
    ]
    assert [name.text for name in name_cells(placed)][::3] == [
        "cutmix tuned placement=clipped",
        "cutmix default placement=inside",
    ]
    assert setting_text({"augmentation.prob": 0.5, "training.learning_rate": 0.1}) == (
        "prob=0.5 learning_rate=0.1"
    )


def test_a_baseline_that_is_tuned_too_is_the_tuned_one() -> None:
    rows = [cell("none", "tuned"), cell("none", "default"), cell("cutmix", "tuned", alpha=1.0)]
    cells = pd.DataFrame(
        [{"cell_key": str(n), "label": str(n), **row} for n, row in enumerate(rows)]
    )
    assigned, problem = assign_baselines(cells, {"augmentation.name": "none"}, None)
    assert (set(assigned.values()), problem) == ({"0"}, "")


def test_the_lines_to_paste_have_parameters_alone() -> None:
    found = settings_of(cell("cutmix", "tuned", prob=0.25, alpha=0.2))
    assert found.parameters == {"prob": 0.25, "alpha": 0.2}
