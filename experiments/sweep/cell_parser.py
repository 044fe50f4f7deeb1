"""Cells of one sweep become runs with their keys; sections that cells share are checked once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mixbench.experiments.config import keys
from mixbench.experiments.config.resolve import check_mixing, parse
from mixbench.experiments.config.schema import RunConfig


@dataclass(frozen=True)
class Cell:
    """The runs of one configuration, one for each seed."""

    key: str
    run_keys: list[str]
    runs: list[RunConfig]


class CellParser:
    """Parses the cells of one sweep."""

    def __init__(self) -> None:
        # Both with the JSON that goes into the keys.
        self._bases: dict[str, tuple[RunConfig, dict[str, str]]] = {}
        self._augmentations: dict[str, tuple[dict[str, Any], str]] = {}
        self._fitting: set[tuple[str, int | tuple[int, int] | None, str]] = set()

    def parse(self, raw: dict[str, Any], seeds: Iterable[int]) -> Cell:
        """Return the runs of a cell: what `resolve.parse` gives for each seed, but faster.

        Raises UserError as `resolve.parse` does.
        """
        # Phases depend on the method, and so does whether features can be cached.
        is_separate = raw.get("staging") is None and raw.get("transfer") is None
        separate = "augmentation" if is_separate else None
        rest = keys.to_json({name: value for name, value in raw.items() if name != separate})
        method = keys.to_json(raw.get("augmentation"))
        if rest not in self._bases or method not in self._augmentations:
            config = parse(raw)
            texts = config.section_texts()
            text = texts.pop("augmentation")
            self._bases.setdefault(rest, (config, texts))
            self._augmentations.setdefault(method, (config.augmentation, text))
        base, other_texts = self._bases[rest]
        augmentation, text = self._augmentations[method]
        fits = (method, base.dataset.image_size, base.model.name)
        if fits not in self._fitting:
            check_mixing(augmentation, None, *fits[1:])
            self._fitting.add(fits)
        texts = {"augmentation": text, **other_texts}
        runs = [
            base.model_copy(update={"augmentation": augmentation, "seed": seed}) for seed in seeds
        ]
        return Cell(keys.cell_key(texts), keys.run_keys(texts, seeds), runs)
