"""What the program did at 0.1, kept as JSON in `expected/`, and the shape of JSON in general.

With MIXBENCH_WRITE_GOLDEN=1 the tests write these files anew and compare nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "expected"
WRITE = os.environ.get("MIXBENCH_WRITE_GOLDEN") == "1"

_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def compare(name: str, found: Any) -> None:
    """Check that `found` equals what `expected/NAME.json` holds."""
    path = FOLDER / f"{name}.json"
    if WRITE:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert found == json.loads(path.read_text(encoding="utf-8"))


def files(folder: Path) -> list[str]:
    """List the files below a folder by their paths."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def shape(values: Iterable[Any]) -> dict[str, str]:
    """Map the path of every key in these JSON values to the types found there.

    `runs[].seed` is the key `seed` of each object in the list `runs`.
    """
    found: dict[str, set[str]] = {}

    def look(value: Any, path: str) -> None:
        found.setdefault(path, set()).add(_TYPES[type(value)])
        if isinstance(value, dict):
            for key, inner in value.items():
                look(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for inner in value:
                look(inner, f"{path}[]")

    for value in values:
        look(value, "")
    return {path: " or ".join(sorted(types)) for path, types in sorted(found.items())}
