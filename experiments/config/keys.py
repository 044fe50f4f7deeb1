"""What identifies a run: its sections as JSON without what is not set, and the keys made of them.

Options that a later version adds, unset, must leave the keys of older runs as they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mixbench import augmentations
from mixbench.experiments.config import datasets, staging, weights

if TYPE_CHECKING:
    from mixbench.experiments.config.schema import RunConfig

SCHEMA = 1
"""Changes when the same configuration would no longer give the same run."""

_BEFORE_THE_SEED = ("augmentation", "dataset", "evaluation", "model")
_AFTER_THE_SEED = ("staging", "training", "transfer")


def of(config: RunConfig) -> dict[str, str]:
    """What identifies a cell: its sections as JSON, in order."""
    identity = config.model_dump(mode="json", exclude_none=True)
    identity["augmentation"] = augmentations.registry.identifying(identity["augmentation"])
    if config.staging is not None:
        # Not the name that the phases have.
        identity["staging"] = {"phases": staging.identity(identity["staging"]["phases"])}
    # The place of a folder is not part of what it holds.
    identity["dataset"]["name"] = datasets.identity(config.dataset.name)
    if config.transfer is not None and config.transfer.weights is not None:
        identity["transfer"]["weights"] = weights.identity(config.transfer.weights)
    names = (*_BEFORE_THE_SEED, *_AFTER_THE_SEED)
    return {name: text(identity[name]) for name in names if name in identity}


def cell_key(identity: Mapping[str, str]) -> str:
    """The key of the runs that differ in their seed alone: 16 hexadecimal digits."""
    head, tail = _around_the_seed(identity)
    return _digest(f"{head},{tail}")


def run_keys(identity: Mapping[str, str], seeds: Iterable[int]) -> list[str]:
    """The key of the run with each seed: 16 hexadecimal digits, the same on every machine."""
    head, tail = _around_the_seed(identity)
    return [_digest(f'{head},"seed":{seed},{tail}') for seed in seeds]


def _around_the_seed(identity: Mapping[str, str]) -> tuple[str, str]:
    """A JSON object of the sections and the schema, its keys in order, in two parts."""
    before = [f'"{name}":{identity[name]}' for name in _BEFORE_THE_SEED]
    after = [f'"{name}":{identity[name]}' for name in _AFTER_THE_SEED if name in identity]
    return "{" + ",".join([*before, f'"schema":{SCHEMA}']), ",".join(after) + "}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr).encode
