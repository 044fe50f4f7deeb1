"""The cells of one sweep, parsed: what many of them share is checked only once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mixbench.experiments.config import keys
from mixbench.experiments.config.resolve import check_mixing, parse
from mixbench.experiments.config.schema import RunConfig


class Grid:
    """Parses the cells of one sweep: a section that many of them share is checked only once."""

    def __init__(self) -> None:
        # Both with the JSON that goes into the keys.
        self._bases: dict[str, tuple[RunConfig, dict[str, str]]] = {}
        self._augmentations: dict[str, tuple[dict[str, Any], str]] = {}
        self._fitting: set[tuple[str, int | None, str]] = set()

    def runs(
        self, raw: dict[str, Any], seeds: Iterable[int]
    ) -> tuple[str, list[str], list[RunConfig]]:
        """The cell's key, and the key and the configuration of its run with each seed.

        As `parse` of each and its properties, but sooner. UserError as from `parse`.
        """
        # What phases are depends on the method, and whether features can be cached.
        apart = raw.get("staging") is None and raw.get("transfer") is None
        own_part = "augmentation" if apart else None
        rest = keys.to_json({name: value for name, value in raw.items() if name != own_part})
        drawn = keys.to_json(raw.get("augmentation"))
        if rest not in self._bases or drawn not in self._augmentations:
            parsed = parse(raw)
            texts = parsed.section_texts()
            own = texts.pop("augmentation")
            self._bases.setdefault(rest, (parsed, texts))
            self._augmentations.setdefault(drawn, (parsed.augmentation, own))
        base, others = self._bases[rest]
        augmentation, own = self._augmentations[drawn]
        fits = (drawn, base.dataset.image_size, base.model.name)
        if fits not in self._fitting:
            check_mixing(augmentation, None, *fits[1:])
            self._fitting.add(fits)
        texts = {"augmentation": own, **others}
        made = [
            base.model_copy(update={"augmentation": augmentation, "seed": seed}) for seed in seeds
        ]
        return keys.cell_key(texts), keys.run_keys(texts, seeds), made
