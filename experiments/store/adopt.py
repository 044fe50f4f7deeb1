"""Folders that were put together by hand: runs copied in, or a folder of runs without a plan.

A sweep's own folder is made whole by `SweepFolder.create_or_grow`. This is for what is there
already, and for run folders that are not what their names say. Standard library only.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store import claims
from mixbench.experiments.store.files import dump, no_folder, read_json, write_once

SET_ASIDE = "set_aside"
"""The folder in a sweep's folder for what lies under the name of a run and is another run's."""
_KEY = re.compile(r"[0-9a-f]{16}")
_KEY_IN_JSON = re.compile(rb'"run_key":\s*"([^"]*)"')
_HEAD_BYTES = 200
_SHOWN = 3


def check_destination(path: Path) -> bool:
    """Is there a folder of runs without a plan, which a sweep can adopt?

    False where there is nothing, or a sweep already. UserError, in one line, for anything else.
    """
    advice = "give the sweep another name with --name, or move it away"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{no_folder(path)}; {advice}") from None
        return False
    if not stat.S_ISDIR(mode):
        raise UserError(f"{path}: is a file, expected the folder of a sweep; {advice}")
    if (path / "sweep.json").exists():
        return False
    names = sorted(os.listdir(path))
    if not names:
        return False
    if (path / "runs").is_dir():
        runs = os.listdir(path / "runs")
        if any(map(_KEY.fullmatch, runs)) or (not runs and names == ["runs"]):
            return True
    raise UserError(f"{path}: exists and is no sweep (it holds {a_few(names)}); {advice}")


@dataclass
class Misfits:
    """Run folders that don't count. unplanned: names of no run of the sweep.

    others: key of a planned run -> whose files are in its folder.
    """

    unplanned: list[str] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)


def adopt(path: Path, header: Mapping[str, Any], plan: str) -> None:
    """Make a folder of runs a sweep's; header and plan: of a new sweep with just these runs.

    What is there stays, a plan too: the sweep grows from it to what is asked for. `sweep.json` is
    written last, so that a crash leaves a folder to adopt.
    """
    write_once(path / "plan.jsonl", plan)
    write_once(path / "sweep.json", dump(header))


def misfits(
    runs: Path, begun: Iterable[str], planned: Collection[str], known: Collection[str]
) -> Misfits:
    """Return which of the folders in `runs` are not what they should be.

    begun: the names of these folders. planned: the keys that the sweep asks for. known: those that
    it had asked for before.
    """
    found = Misfits()
    for name in sorted(begun):
        if name in planned:
            inside = _key_inside(runs / name)
            if inside not in (None, name):
                found.others[name] = str(inside)
        elif name not in known and not name.startswith("."):
            found.unplanned.append(name)
    return found


def set_aside(runs: Path, run_keys: Iterable[str]) -> dict[str, Path]:
    """Move run folders that hold another run's files out of `runs`; return where they are now.

    One that a worker holds stays.
    """
    moved = {}
    for key in run_keys:
        if claims.holder(runs / key) is not None:
            continue
        place = runs.parent / SET_ASIDE / key
        place.parent.mkdir(exist_ok=True)
        number = 1
        while place.exists():
            number += 1
            place = place.with_name(f"{key}.{number}")
        os.rename(runs / key, place)
        moved[key] = place
    return moved


def a_few(names: list[str]) -> str:
    """Name the first of them, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _key_inside(folder: Path) -> str | None:
    """Return the key that the files of a run folder say; None where they say none."""
    for name in ("result.json", "config.json"):
        try:
            with open(folder / name, "rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError:
            continue
        # It stands at the beginning: reading ten thousand files whole would take seconds.
        match = _KEY_IN_JSON.search(head)
        if match:
            return match[1].decode(errors="replace")
        key = (read_json(folder / name) or {}).get("run_key")
        if isinstance(key, str):
            return key
    return None
