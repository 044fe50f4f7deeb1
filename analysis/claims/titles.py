"""Name the regime in which a claim is judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mixbench.analysis.claims.regimes import Regime, value_of
from mixbench.analysis.claims.study import Study
from mixbench.analysis.tables.labels import factor_text, value_text
from mixbench.analysis.text.names import setting_name

_GROUP = ": "
"""Between a group of cells and a parameter of its own."""


def regime_title(study: Study, regime: Regime) -> str:
    """Return such as "fashion_mnist, 1800 images, small_cnn, 45 epochs, flips".

    Data, network and length of training as far as all cells share them, then what tells the regime
    from the claim's others.
    """
    cells = [cell for group in regime.cells.values() for cell in group]
    rows = [study.rows[cell] for cell in cells]
    images = study.runs.loc[study.runs["cell_key"].isin(cells)]
    parts = [_shared(row.get("dataset.name") for row in rows)]
    if "data.train" in images and (number := _shared(images["data.train"].dropna())):
        parts.append(f"{int(float(number)):,} images")
    parts.append(_shared(row.get("model.name") for row in rows))
    if epochs := _shared(value_of(row, "training.epochs") for row in rows):
        parts.append(f"{epochs} epochs")
    told = ("dataset.name", "dataset.train_size", "dataset.train_fraction", "training.epochs")
    named = [key for key in regime.setting if key not in (*told, "model.name")]
    parts += [_factor(key, regime.setting[key]) for key in named]
    return ", ".join(part for part in parts if part)


def _factor(key: str, value: Any) -> str:
    group, separator, own = key.rpartition(_GROUP)
    text = setting_name(factor_text(own.rpartition(".")[2], own, value, {}))
    return f"{group}: {text}" if separator else text


def _shared(values: Iterable[Any]) -> str:
    texts = {value_text(value) for value in values if value is not None}
    return texts.pop() if len(texts) == 1 else ""
