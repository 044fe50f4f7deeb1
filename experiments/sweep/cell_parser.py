"""Cells of one sweep become runs with their keys; sections that cells share are checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mixbench.experiments.config import keys
from mixbench.experiments.config.resolve import check_mixing, parse
from mixbench.experiments.config.schema import DatasetConfig, RunConfig
from mixbench.experiments.errors import UserError

Draw = tuple[int | None, int]
"""A replicate (None where the sweep has none) and a seed."""


@dataclass(frozen=True)
class Cell:
    """The runs of one configuration, one for each draw."""

    key: str
    run_keys: list[str]
    runs: list[RunConfig]


class CellParser:
    """Parses the cells of one sweep."""

    def __init__(self) -> None:
        # Both with the JSON that goes into the keys.
        self._bases: dict[str, tuple[RunConfig, dict[str, str]]] = {}
        self._augmentations: dict[str, tuple[dict[str, Any], str]] = {}
        self._subsets: dict[tuple[DatasetConfig, int], tuple[DatasetConfig, str]] = {}
        self._fitting: set[tuple[str, int | tuple[int, int] | None, str]] = set()

    def parse(self, raw: dict[str, Any], draws: Sequence[Draw]) -> Cell:
        """Return the runs of a cell: what `resolve.parse` gives for each draw, but faster.

        Raises UserError as `resolve.parse` does.
        """
        # Phases depend on the method, and so does whether features can be cached or taught, and
        # whether other images can be beside.
        with_method = ("staging", "streams", "teacher", "transfer")
        is_separate = all(raw.get(name) is None for name in with_method)
        separate = "augmentation" if is_separate else None
        rest = keys.to_json({name: value for name, value in raw.items() if name != separate})
        method = keys.to_json(raw.get("augmentation"))
        known = self._bases.get(rest)
        # Whether a task has a way to mix depends on the method too.
        is_known = known is not None and not known[0].task_info.mixings
        if not is_known or method not in self._augmentations:
            config = parse(raw)
            texts = config.section_texts()
            text = texts.pop("augmentation")
            if not is_known:
                self._bases[rest] = (config, texts)
            self._augmentations.setdefault(method, (config.augmentation, text))
        base, other_texts = self._bases[rest]
        if base.dataset.folds is not None and draws[0][0] is None:
            raise UserError(
                f"dataset.folds: folds are replicates; give `replicates: {base.dataset.folds}` at "
                f"the top of the sweep (or {2 * base.dataset.folds} for two repetitions) in place "
                "of `seeds` alone"
            )
        augmentation, text = self._augmentations[method]
        fits = (method, base.dataset.image_size, base.model.name)
        if fits not in self._fitting:
            check_mixing(augmentation, None, *fits[1:])
            self._fitting.add(fits)
        texts = {"augmentation": text, **other_texts}
        cell = base.model_copy(update={"augmentation": augmentation})
        run_keys: list[str] = []
        runs: list[RunConfig] = []
        for replicate, of_replicate in groupby(draws, key=lambda draw: draw[0]):
            seeds = [seed for _, seed in of_replicate]
            own, own_texts = self._of_replicate(cell, texts, replicate)
            run_keys += keys.run_keys(own_texts, seeds)
            runs += [own.model_copy(update={"seed": seed}) for seed in seeds]
        return Cell(keys.cell_key(texts), run_keys, runs)

    def _of_replicate(
        self, cell: RunConfig, texts: dict[str, str], replicate: int | None
    ) -> tuple[RunConfig, dict[str, str]]:
        """Return a cell and its texts with the training subset of a replicate."""
        if replicate is None:
            return cell, texts
        identity = cell.dataset, replicate
        if identity not in self._subsets:
            split_seed = cell.dataset.split_seed + replicate
            dataset = cell.dataset.model_copy(update={"split_seed": split_seed})
            text = cell.model_copy(update={"dataset": dataset}).section_texts()["dataset"]
            self._subsets[identity] = dataset, text
        dataset, text = self._subsets[identity]
        own = cell.model_copy(update={"dataset": dataset, "replicate": replicate})
        if own.transfer is not None or own.teacher is not None:
            # Which weights it starts from may depend on the replicate.
            return own, own.section_texts()
        return own, {**texts, "dataset": text}
