"""The section `streams` in tables: every configuration has all fields of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixbench.experiments.design.stream_names import SECTION, UNLABELLED


def spread(flat: Sequence[dict[str, Any]]) -> None:
    """Give every flattened configuration all fields of streams that one has, in place."""
    inside = f"{SECTION}."
    keys = dict.fromkeys(key for config in flat for key in config if key.startswith(inside))
    keys.pop(UNLABELLED, None)
    for config in flat:
        for section in (SECTION, UNLABELLED):
            config.pop(section, None)
        for key in keys:
            config.setdefault(key, None)
