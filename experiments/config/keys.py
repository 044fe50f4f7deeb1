"""The keys of a run: hashes of its resolved sections as JSON, without what is not set.

Options that a later version adds must, unset, leave the keys of older runs as they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from mixbench.augmentations.registry import identifying
from mixbench.experiments.config import datasets, weights
from mixbench.experiments.staging.phases import identifying_phases

SCHEMA = 1
"""Increased when the same configuration would no longer give the same run."""

_BEFORE_THE_SEED = ("augmentation", "dataset", "evaluation", "model")
_AFTER_THE_SEED = ("staging", "streams", "task", "teacher", "training", "transfer")


def section_texts(sections: Mapping[str, Any]) -> dict[str, str]:
    """Return the JSON of each section that identifies a cell.

    sections: those of a resolved configuration as JSON has them, without keys that are None.
    """
    dataset = dict(sections["dataset"])
    # A folder is identified by what it holds, wherever it is.
    dataset["name"] = datasets.identity(dataset["name"])
    identifying_parts = {
        **{name: sections[name] for name in ("evaluation", "model", "training")},
        "augmentation": identifying(sections["augmentation"]),
        "dataset": dataset,
    }
    if "staging" in sections:
        # Without the name that the phases have.
        phases = identifying_phases(sections["staging"]["phases"])
        identifying_parts["staging"] = {"phases": phases}
    if "streams" in sections:
        parts = {name: _with_identities(part) for name, part in sections["streams"].items()}
        identifying_parts["streams"] = parts
    if "task" in sections:
        identifying_parts["task"] = sections["task"]
    for name in ("teacher", "transfer"):
        if name in sections:
            identifying_parts[name] = _with_weights(sections[name], sections.get("replicate"))
    return {name: to_json(part) for name, part in identifying_parts.items()}


def _with_identities(stream: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stream with what identifies its data, wherever they are, and its mixing."""
    return {
        **stream,
        "dataset": datasets.identity(stream["dataset"]),
        "augmentation": identifying(stream["augmentation"]),
    }


def _with_weights(section: Mapping[str, Any], replicate: int | None) -> dict[str, Any]:
    """Return a section with what identifies its weights, wherever they are."""
    part = dict(section)
    if "weights" in part:
        part["weights"] = weights.identity(part["weights"])
        if replicate is not None and str(part["weights"]).startswith("cell:"):
            # The same cell pretrains on another subset in each replicate.
            part["replicate"] = replicate
    return part


def cell_key(texts: Mapping[str, str]) -> str:
    """Return the key of the runs that differ in their seed alone: 16 hexadecimal digits."""
    head, tail = _around_the_seed(texts)
    return _digest(f"{head},{tail}")


def run_keys(texts: Mapping[str, str], seeds: Iterable[int]) -> list[str]:
    """Return the key of the run with each seed: 16 digits, the same on every machine."""
    head, tail = _around_the_seed(texts)
    return [_digest(f'{head},"seed":{seed},{tail}') for seed in seeds]


def _around_the_seed(texts: Mapping[str, str]) -> tuple[str, str]:
    """Return a JSON object of the sections and the schema, its keys in order, in two parts."""
    before = [f'"{name}":{texts[name]}' for name in _BEFORE_THE_SEED]
    after = [f'"{name}":{texts[name]}' for name in _AFTER_THE_SEED if name in texts]
    return "{" + ",".join([*before, f'"schema":{SCHEMA}']), ",".join(after) + "}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


to_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr).encode
