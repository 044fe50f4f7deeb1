"""Names of regimes: what a teacher is told of belongs to it, and none has nothing to tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mixbench.analysis.claims.regimes import Regime
from mixbench.analysis.claims.titles import regime_title


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (None, "digits, small_cnn, 2 epochs, no teacher"),
        (
            "cell:0123456789abcdef",
            "digits, small_cnn, 2 epochs, teacher trained in this sweep, teacher's network unet, "
            "teacher's width 3, teacher's weight 0.5",
        ),
    ],
)
def test_fields_of_a_teacher_are_told_where_there_is_one(weights: Any, expected: str) -> None:
    row = {"dataset.name": "digits", "model.name": "small_cnn", "training.epochs": 2}
    study: Any = SimpleNamespace(rows={"c": row}, training_images={})
    fields = ("teacher.model.name", "teacher.model.width", "teacher.weight")
    values = ("unet", 3, 0.5) if weights else (None, None, None)
    setting = {"teacher.weights": weights, **dict(zip(fields, values, strict=True))}
    assert regime_title(study, Regime(setting, {"one": ("c",)})) == expected
