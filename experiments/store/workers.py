"""List the workers of a sweep, from the files that they write into `workers/`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixbench.experiments.store import claims, processes
from mixbench.experiments.store.files import read_json
from mixbench.experiments.store.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Worker:
    """One worker process. `body` is its file in `workers/`.

    alive: on this machine, is its process there? Elsewhere, does it send heartbeats for the run
    that it holds? None where neither can be told: it is on another machine and holds no run. False
    for those of another folder, of which this one is a copy.
    """

    name: str
    path: Path
    body: dict[str, Any]
    alive: bool | None

    @property
    def here(self) -> bool:
        """Is it on this machine, where its process id means something?"""
        return self.body.get("host") == processes.this_host()

    @property
    def host(self) -> str:
        """The machine's name."""
        return str(self.body.get("host") or "?").split(" ")[0]

    def as_json(self) -> dict[str, Any]:
        """What `mixbench status --json` says of it."""
        fields = ("pid", "job", "device", "started", "time", "run_key")
        row = {"worker": self.name, "host": self.host}
        return {**row, **{key: self.body.get(key) for key in fields}, "alive": self.alive}

    def is_running_here(self) -> bool:
        """Is the process that wrote the file alive on this machine, and no other with its id?"""
        start = self.body.get("process_start")
        return self.here and bool(start) and processes.process_start(int(self.body["pid"])) == start


def workers(folder: SweepFolder) -> list[Worker]:
    """Return all workers that left a file in the sweep, in the order of their start."""
    listed = []
    for path in files(folder.path / "workers", ".json"):
        try:
            body = read_json(path)
        except OSError:
            continue
        if body is not None:
            name = str(body.get("worker") or path.stem)
            worker = Worker(name, path, body, None)
            listed.append(replace(worker, alive=_is_alive(folder, worker)))
    return sorted(listed, key=lambda worker: worker.body.get("started") or 0.0)


def is_of_another(folder: SweepFolder, recorded: object) -> bool:
    """Was a record left by processes of another folder, of which this one is a copy?

    recorded: the sweep's folder as they knew it. If it is gone, the folder was moved, and they with
    it.
    """
    if not isinstance(recorded, str):
        return False
    try:
        return not os.path.samefile(recorded, folder.path)
    except OSError:
        return False


def _is_alive(folder: SweepFolder, worker: Worker) -> bool | None:
    if is_of_another(folder, worker.body.get("folder")):
        return False
    if worker.here and not processes.is_hidden(int(worker.body["pid"])):
        return worker.is_running_here()
    run, number = worker.body.get("run_key"), worker.body.get("claim")
    if not run or "/" in run:
        return None
    claim = claims.last(folder.path / "runs" / run)
    if claim is None or claim["number"] != number or "released" in claim:
        # It no longer holds the run, and has not updated its file yet or died before it could.
        return None
    return not claims.is_stale(claim)


def files(folder: Path, ending: str) -> list[Path]:
    """The files of a folder, if there is one, whose names end so; hidden ones left out."""
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if entry.name.endswith(ending) and not entry.name.startswith(".")
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
