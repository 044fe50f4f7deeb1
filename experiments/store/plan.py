"""The plan of a sweep on disk, in revisions: which runs it has, and who asked for them.

`plan.jsonl` is the first revision, one run a line; its wish is in `sweep.json`. Every change is a
new file `plan.N.jsonl`, a line about the revision and then its runs. A revision is put in place
whole, by exclusive creation: of two that change a plan at once, one is told to read it again.
Nothing is ever rewritten, and the highest number counts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store import processes
from mixbench.experiments.store.files import parse_lines, parse_object, write_once

SCHEMA = 1
"""The version of the files `plan.N.jsonl`."""
FIRST = "plan.jsonl"
_LATER = re.compile(r"plan\.([1-9]\d*)\.jsonl")
_TRIES = 20


@dataclass(frozen=True)
class Command:
    """Who asks for runs.

    since: when the command began; what others planned since then is united with its wish. process:
    the `processes.this_process()` of it. source: what the wish was read from.
    """

    since: float
    process: Mapping[str, Any] = field(default_factory=processes.this_process)
    source: str = ""
    continues: bool = False
    """Does it go on with what is planned, and give up nothing that others asked for?"""

    def as_json(self) -> dict[str, Any]:
        """What a revision says of who made it."""
        return {"source": self.source, **self.process}


@dataclass(frozen=True)
class Wish:
    """What one command asked for: the sweep as it was given, by whom and when."""

    spec: dict[str, Any]
    description: str
    created: float
    by: Mapping[str, Any] = field(default_factory=dict)

    def is_at_once_with(self, command: Command) -> bool:
        """Was it planned while the command ran, or by another's command that still runs?"""
        if self.created >= command.since:
            return True
        process = {key: self.by.get(key) for key in ("host", "pid", "process_start")}
        if process["host"] != processes.this_host() or process == dict(command.process):
            return False
        return self.by.get("source") != command.source and not processes.is_dead(process)

    def as_json(self) -> dict[str, Any]:
        """The wish as a revision holds it."""
        about = {"spec": self.spec, "description": self.description}
        return {**about, "created": self.created, "by": dict(self.by)}


@dataclass(frozen=True)
class PlanRow:
    """One planned run, as a line of the plan.

    wishes: the numbers of the revision's wishes that ask for it. tune: its part in the tuning of a
    method, see `choices`; None for most.
    """

    run_key: str
    cell_key: str
    config: dict[str, Any]
    pretraining: bool = False
    wishes: tuple[int, ...] = (0,)
    tune: Mapping[str, Any] | None = None

    @property
    def possible_keys(self) -> set[str]:
        """The keys of the runs that it can be: one, or one for each setting to choose from."""
        settings = (self.tune or {}).get("settings", ())
        return {self.run_key, *(setting["run_key"] for setting in settings)}


@dataclass(frozen=True)
class Head:
    """What a revision says beside its runs.

    wishes: the newest first, then those of others that it was united with. dropped: the keys of
    runs that were planned and are no longer asked for.
    """

    number: int
    wishes: tuple[Wish, ...]
    dropped: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Revision:
    """A plan as it was from one change to the next."""

    head: Head
    rows: tuple[PlanRow, ...]

    @property
    def keys(self) -> dict[str, PlanRow]:
        """run_key -> row."""
        return {row.run_key: row for row in self.rows}


def newest_number(folder: Path) -> int:
    """The number of the newest revision, which costs one look at the sweep's folder."""
    matches = (_LATER.fullmatch(name) for name in os.listdir(folder))
    return max((int(match[1]) for match in matches if match), default=1)


def path(folder: Path, number: int) -> Path:
    """Where a revision is."""
    return folder / (FIRST if number == 1 else f"plan.{number}.jsonl")


def older(folder: Path) -> list[Path]:
    """The revisions before the newest that nothing reads any more; the first always stays."""
    return [path(folder, number) for number in range(2, newest_number(folder))]


def read(folder: Path, header: Mapping[str, Any]) -> Revision:
    """The newest revision; header: that of `sweep.json`. UserError for one that can't be read."""
    number, text = _newest_text(folder)
    if number == 1:
        return Revision(_first_head(header), tuple(map(_row, parse_lines(text))))
    line, _, rest = text.partition("\n")
    about = _checked(folder, number, line)
    rows = tuple(map(_row, parse_lines(rest)))
    if len(rows) != about["runs"]:
        raise UserError(
            f"{path(folder, number)}: {len(rows)} of its {about['runs']} runs can be read; the "
            "file is damaged"
        )
    return Revision(_head(number, about), rows)


def read_head(folder: Path, header: Mapping[str, Any]) -> Head:
    """What the newest revision says beside its runs."""
    number, line = _newest_text(folder, whole=False)
    return _first_head(header) if number == 1 else _head(number, _checked(folder, number, line))


def last_row(folder: Path, run_key: str) -> PlanRow | None:
    """The run as the newest revision that had it planned it; None if none that is there did."""
    for number in range(newest_number(folder), 0, -1):
        try:
            text = path(folder, number).read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        for line in parse_lines(text):
            if line.get("run_key") == run_key:
                return _row(line)
    return None


def write(folder: Path, revision: Revision) -> bool:
    """Put a later revision in place; False when there is one of its number already."""
    about = {
        "schema": SCHEMA,
        "revision": revision.head.number,
        "runs": len(revision.rows),
        "wishes": [wish.as_json() for wish in revision.head.wishes],
        "dropped": sorted(revision.head.dropped),
    }
    text = json.dumps(about) + "\n" + lines(revision.rows)
    return write_once(path(folder, revision.head.number), text)


def lines(rows: Sequence[PlanRow]) -> str:
    """The rows as the lines of a plan."""
    return "".join(json.dumps(_as_json(row)) + "\n" for row in rows)


def _newest_text(folder: Path, *, whole: bool = True) -> tuple[int, str]:
    for _ in range(_TRIES):
        number = 1
        try:
            number = newest_number(folder)
            with path(folder, number).open(encoding="utf-8") as file:
                return number, file.read() if whole else file.readline()
        except FileNotFoundError:
            # Deleted since, because there is a newer one. No folder, or none with a plan, has no
            # runs yet: somebody may wait for it to be made.
            if number == 1:
                return 1, ""
        except UnicodeDecodeError:
            raise UserError(f"{path(folder, number)}: not a plan, but something else") from None
    raise UserError(f"{folder}: its plan changes faster than it can be read")


def _checked(folder: Path, number: int, line: str) -> dict[str, Any]:
    about = parse_object(line) or {}
    if about.get("schema") != SCHEMA:
        raise UserError(
            f"{path(folder, number)}: written by another version of mixbench (schema "
            f"{about.get('schema')!r}, this one reads {SCHEMA})"
        )
    if not about.get("wishes") or "dropped" not in about or "runs" not in about:
        raise UserError(f"{path(folder, number)}: its first line is damaged")
    return about


def _first_head(header: Mapping[str, Any]) -> Head:
    description = str(header.get("description") or "")
    created, by = float(header.get("created") or 0.0), header.get("by") or {}
    return Head(1, (Wish(header.get("spec") or {}, description, created, by),))


def _head(number: int, about: dict[str, Any]) -> Head:
    wishes = tuple(
        Wish(wish["spec"], wish["description"], wish["created"], wish["by"])
        for wish in about["wishes"]
    )
    return Head(number, wishes, frozenset(about["dropped"]))


def _row(row: dict[str, Any]) -> PlanRow:
    return PlanRow(
        row["run_key"],
        row["cell_key"],
        row["config"],
        bool(row.get("pretraining")),
        tuple(row.get("wishes", (0,))),
        row.get("tune"),
    )


def _as_json(row: PlanRow) -> dict[str, Any]:
    line: dict[str, Any] = {
        "run_key": row.run_key,
        "cell_key": row.cell_key,
        "config": row.config,
    }
    if row.pretraining:
        line["pretraining"] = True
    if row.wishes != (0,):
        line["wishes"] = list(row.wishes)
    if row.tune is not None:
        line["tune"] = row.tune
    return line
