"""What a trial knows: it goes on from there when it was killed. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mixbench.experiments.advise.budget import Costs, TrialPlan
from mixbench.experiments.store.files import atomic_write, dump, read_json
from mixbench.experiments.store.sweep_folder import root

TRIES = "tries"
"""The folder beside the sweeps that has a folder for each trial."""
_VERSION = 1


@dataclass(frozen=True)
class Record:
    """A trial as it stands.

    Attributes:
        folder: The images, and `images` what identifies them.
        network: As it was asked for; "" for the usual one.
        fixed: The section `fixed` of the sweep, without what is found by measuring.
        notes: What is to be said of it, such as which weights it starts from.
        rate: The proposed learning rate; None before the range test.
        rate_edge: Of the range test.
        costs: What was measured; None before.
        plan: What is tried; None before it was planned.
        spent: Seconds of the budget, of all calls together.
    """

    folder: str
    images: str
    network: str
    fixed: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    rate: float | None = None
    rate_edge: str = ""
    costs: Costs | None = None
    plan: TrialPlan | None = None
    spent: float = 0.0
    minutes: float = 0.0
    version: int = field(default=_VERSION)


def folder_of(name: str) -> Path:
    """Return where the files of a trial are: its record, its YAML, its answer."""
    return root() / TRIES / name


def save(name: str, record: Record) -> None:
    """Write the record, whole or not at all."""
    path = folder_of(name)
    path.mkdir(parents=True, exist_ok=True)
    atomic_write(path / "try.json", dump(asdict(record)))


def load(name: str) -> Record | None:
    """Return the record of a trial; None where there is none that this version reads."""
    path = folder_of(name) / "try.json"
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        return None
    costs, plan = content.get("costs"), content.get("plan")
    if plan:
        lists = {key: tuple(plan[key]) for key in ("methods", "probs", "rates")}
        plan = TrialPlan(**{**plan, **lists})
    return replace(
        Record(**{**content, "notes": tuple(content["notes"])}),
        costs=Costs(**costs) if costs else None,
        plan=plan or None,
    )
