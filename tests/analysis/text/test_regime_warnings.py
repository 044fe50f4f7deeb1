"""Regimes in which mixing can't be judged are named; healthy ones are not."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mixbench.analysis.statistics.comparison import compare
from mixbench.analysis.text.regime_warnings import regime_warnings


def _warnings(**columns: Any) -> list[str]:
    rates = columns.pop("rates", [0.1])
    runs = pd.DataFrame(
        [
            {
                "cell_key": f"{method}{rate}",
                "seed": seed,
                "state": "done",
                "dataset.name": "imagefolder:x",
                "training.learning_rate": rate,
                "data.classes": 10,
                "data.test": 20_000,
                "test/accuracy": 0.9 - rate / 10,
                "test/nll": 0.4,
                "train/accuracy": 0.99,
                "validation/accuracy": 0.9,
                "best/validation_accuracy": 0.91,
                **columns,
            }
            for method in ("none", "mixup")
            for rate in rates
            for seed in range(3)
        ]
    )
    columns_of_cells = ["cell_key", "training.learning_rate"]
    cells = runs.drop_duplicates("cell_key", ignore_index=True)[columns_of_cells].assign(
        label=lambda frame: frame["cell_key"],
        method=lambda frame: frame["cell_key"].str.extract("([a-z]+)", expand=False),
        group=lambda frame: frame["training.learning_rate"].astype(str),
        done=3,
    )
    cells["augmentation.name"] = cells["method"]
    return regime_warnings(compare(cells, runs), runs)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"test/nll": 14.0}, ["worse than guessing: NLL 14.00, where equal probabilities for 10"]),
        ({"train/accuracy": 0.41}, ["under-fitted: 41% accuracy on its own training images"]),
        ({"validation/accuracy": 0.6}, ["diverging: validation accuracy fell from 91%"]),
        ({"data.test": 90}, ["90 test images leave ± 3.3 points", "dataset.folds tests on all"]),
        ({"rates": [0.1, 0.2, 0.3]}, ["best at the smallest learning rate that was tried, 0.1"]),
        ({}, []),
    ],
)
def test_each_regime_has_its_warning(columns: dict[str, Any], words: list[str]) -> None:
    found = _warnings(**columns)
    assert len(found) == bool(words) and all(word in found[0] for word in words)
