"""`contract.json` in a sweep's folder: what the plug-in methods of a sweep break of the contract.

An entry for each method with its parameters and the code that was checked, also where nothing is
broken: a sweep that is continued with the same code is not checked again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixbench.experiments.store.files import atomic_write, read_json

FILE = "contract.json"


@dataclass(frozen=True)
class Checked:
    """One method of a plug-in, as it was checked.

    Attributes:
        section: The method with its parameters, as a run's configuration has it.
        plugin: The package that it is from.
        code: Its version and digest, in words.
        broken: Each broken promise, with what is broken.
    """

    section: dict[str, Any]
    plugin: str
    code: str
    broken: tuple[str, ...] = ()

    @property
    def what(self) -> tuple[str, str, str]:
        """What was checked: the same text for the same method and code."""
        return json.dumps(self.section, sort_keys=True), self.plugin, self.code


def read(folder: Path) -> tuple[Checked, ...]:
    """Return what was checked for the sweep in `folder`; nothing where the file can't be read."""
    stored = read_json(folder / FILE)
    entries = stored.get("checked") if isinstance(stored, dict) else None
    try:
        return tuple(
            Checked(dict(one["section"]), str(one["plugin"]), str(one["code"]), (*one["broken"],))
            for one in entries or ()
        )
    except (TypeError, KeyError, ValueError):
        return ()


def write(folder: Path, checked: Sequence[Checked]) -> None:
    """Store all that was checked for the sweep in `folder`."""
    text = json.dumps({"checked": [asdict(one) for one in checked]}, indent=1)
    atomic_write(folder / FILE, text.encode())
