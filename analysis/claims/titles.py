"""Name the regime in which a claim is judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mixbench.analysis.claims.patterns import value_of
from mixbench.analysis.claims.regimes import Regime
from mixbench.analysis.claims.study import Study
from mixbench.analysis.tables.labels import factor_text, value_text
from mixbench.analysis.tables.transfers import TEACHER
from mixbench.analysis.text.names import setting_name

_DOSE = "staging.match_dose"
_PROB = "augmentation.prob"
_OF_TEACHER = "teacher."
_GROUP = ": "
"""Between a group of cells and a parameter of its own."""


def regime_title(study: Study, regime: Regime) -> str:
    """Return such as "fashion_mnist, 1800 images, small_cnn, 45 epochs, flips".

    Data, network and length of training as far as all cells share them, then what tells the regime
    from the claim's others.
    """
    cells = [cell for group in regime.cells.values() for cell in group]
    rows = [study.rows[cell] for cell in cells]
    parts = [_shared(row.get("dataset.name") for row in rows)]
    images = {study.training_images.get(cell) for cell in cells}
    if len(images) == 1 and (number := images.pop()) is not None:
        parts.append(f"{number:,} images")
    parts.append(_shared(row.get("model.name") for row in rows))
    if epochs := _shared(value_of(row, "training.epochs") for row in rows):
        parts.append(f"{epochs} epochs")
    told = ("dataset.name", "dataset.train_size", "dataset.train_fraction", "training.epochs")
    named = [key for key in regime.setting if key not in (*told, "model.name")]
    if TEACHER in regime.setting and regime.setting[TEACHER] is None:
        named = [key for key in named if key == TEACHER or not key.startswith(_OF_TEACHER)]
    parts += [_factor(key, regime.setting[key]) for key in named]
    if not any(key.endswith(_PROB) for key in regime.setting):
        parts += _probabilities(study, regime)
    return ", ".join(part for part in parts if part)


def _probabilities(study: Study, regime: Regime) -> list[str]:
    """Return how often a method mixes, where that is not always: no claim is about that."""
    parts: dict[str, None] = {}
    for cells in regime.cells.values():
        for cell in cells:
            row = study.rows[cell]
            prob = value_of(row, _PROB)
            if row.get("augmentation.name") != "none" and prob not in (None, 1):
                parts[f"{row['augmentation.name']} at prob {value_text(prob)}"] = None
    return list(parts)


def _factor(key: str, value: Any) -> str:
    group, separator, own = key.rpartition(_GROUP)
    name = "dose" if own == _DOSE else own.rpartition(".")[2]
    if own.startswith(_OF_TEACHER):
        name = "teacher's network" if name == "name" else f"teacher's {name}"
    text = setting_name(factor_text(name, own, value, {}))
    return f"{group}: {text}" if separator else text


def _shared(values: Iterable[Any]) -> str:
    texts = {value_text(value) for value in values if value is not None}
    return texts.pop() if len(texts) == 1 else ""
