"""A profile: what a SLURM cluster gives one task of a sweep, as a YAML file."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mixbench.experiments import yaml_file
from mixbench.experiments.errors import UserError, unknown
from mixbench.slurm.sbatch import KEYS_OF_FLAGS, RESERVED_FLAGS, TIME, count_gpus, seconds

SHIPPED = Path(__file__).parent / "profiles"
TASKS = 100
"""The most tasks of a sweep, where the profile says neither `tasks` nor `throttle`."""

_FLAG = re.compile(r"[a-z][a-z0-9-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Profile(BaseModel):
    """What one SLURM task gets, and how many workers it starts there.

    `load` reads it from a file. Sizes and times are as SLURM takes them. `name` is the file's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "profile"
    description: str = ""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = None
    gpus: int | str | None = None
    gpus_per_node: int | str | None = None
    cpus: int | None = Field(None, ge=1)
    memory: str | None = None
    time: str = "60"
    constraint: str | None = None
    nodes: int = Field(1, ge=1)
    setup: tuple[str, ...] = ()
    container: str | None = None
    python: str | None = None
    throttle: int | None = Field(None, ge=1)
    workers_per_gpu: int = Field(1, ge=1)
    workers: int | None = Field(None, ge=1)
    tasks: int | None = Field(None, ge=1)
    flags: dict[str, str | int | Literal[True]] = Field(default_factory=dict)
    signal_seconds: int = Field(90, ge=1, le=65535)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"got {str(value).lower()}, expected {_EXPECTED[info.field_name]}")
        if info.field_name in ("memory", "time") and isinstance(value, int):
            # Megabytes and minutes, as for sbatch.
            return str(value)
        if isinstance(value, str) and info.field_name != "description":
            if not value.strip() or not value.isprintable():
                raise ValueError(f"got {value!r}, expected {_EXPECTED[info.field_name]}")
        return value

    @field_validator("gpus", "gpus_per_node")
    @classmethod
    def _gpu_count(cls, value: int | str | None) -> int | str | None:
        if value is not None and count_gpus(str(value)) < 1:
            raise ValueError(f"got {value!r}, expected {_EXPECTED['gpus']}")
        return value

    @field_validator("memory")
    @classmethod
    def _memory(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+[KMGT]?B?", value, re.I):
            raise ValueError(f"got {value!r}, expected {_EXPECTED['memory']}")
        return value

    @field_validator("time")
    @classmethod
    def _time(cls, value: str) -> str:
        if seconds(value) < 60:
            raise ValueError(f"got {value!r}, expected at least a minute")
        return value

    @field_validator("setup")
    @classmethod
    def _setup(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            if "\n" in line or line.lstrip().startswith("#SBATCH"):
                raise ValueError(
                    f"got {line!r}, expected one line of shell each; SBATCH lines go in flags"
                )
        return value

    @field_validator("container", "python")
    @classmethod
    def _command(cls, value: str | None) -> str | None:
        try:
            words = shlex.split(value or "")
        except ValueError as error:
            raise ValueError(f"got {value!r}, expected a command: {error}") from None
        if value is not None and not words:
            raise ValueError(f"got {value!r}, expected a command")
        return value

    @field_validator("flags", mode="before")
    @classmethod
    def _flags(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"got {value!r}, expected a mapping, such as {{exclusive: true}}")
        for name, given in value.items():
            if not isinstance(name, str) or not _FLAG.fullmatch(name):
                raise ValueError(
                    f"got {name!r}, expected sbatch's long option without its dashes, such as "
                    "mail-type"
                )
            if name in KEYS_OF_FLAGS:
                raise ValueError(f"{name}: give it as the profile's own key {KEYS_OF_FLAGS[name]}")
            if name in RESERVED_FLAGS:
                raise ValueError(f"{name}: mixbench sets this itself")
            if (given is not True and not isinstance(given, str | int)) or given is False:
                raise ValueError(f"{name}: got {given!r}, expected text, a whole number or true")
            if isinstance(given, str) and not given.isprintable():
                raise ValueError(f"{name}: got {given!r}, expected one line of text")
        return value

    @model_validator(mode="after")
    def _check_combination(self) -> Profile:
        given = [name for name in ("gres", "gpus", "gpus_per_node") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: they ask for GPUs twice, give one of them")
        if self.signal_seconds >= seconds(self.time):
            raise ValueError(
                f"signal_seconds: got {self.signal_seconds}, expected less than the time of "
                f"{self.time!r}, which is {seconds(self.time)} seconds"
            )
        if self.gpu_count and self.workers is not None:
            raise ValueError("workers: for tasks without a GPU; give workers_per_gpu instead")
        if "workers_per_gpu" in self.model_fields_set and not self.gpu_count:
            raise ValueError("workers_per_gpu: the profile asks for no GPU; give workers instead")
        if self.workers is not None and self.workers > (self.cpus or 1):
            raise ValueError(
                f"workers: got {self.workers}, expected at most cpus ({self.cpus or 1})"
            )
        if self.nodes > 1:
            self._check_nodes()
        return self

    def _check_nodes(self) -> None:
        """Raise ValueError for what does not go with more than one node, whatever the runs are."""
        if self.gpus is not None:
            raise ValueError("gpus: counts those of all nodes; with nodes, give gpus_per_node")
        if self.container is not None:
            # The worker inside would have to ask SLURM, outside, for the processes elsewhere.
            raise ValueError(f"container: with nodes of {self.nodes}, expected none")
        for name in ("workers", "workers_per_gpu"):
            if (getattr(self, name) or 1) > 1:
                raise ValueError(
                    f"{name}: got {getattr(self, name)}, expected 1 with nodes of {self.nodes}: "
                    "a task over several nodes has one worker"
                )

    @property
    def gpu_count(self) -> int:
        """Count the GPUs on each node of a task."""
        if self.gres is not None:
            return sum(
                count_gpus(part.partition(":")[2] or "1")
                for part in self.gres.split(",")
                if part.partition(":")[0] == "gpu"
            )
        wanted = self.gpus if self.gpus is not None else self.gpus_per_node
        return 0 if wanted is None else count_gpus(str(wanted))

    def workers_for(self, devices: int = 1) -> int:
        """Return the workers that one task starts, for runs that take `devices` GPUs each.

        Without GPUs, `devices` are processes that share the CPUs of their worker. UserError where a
        run takes more GPUs than a task has, or would share some of them, or does not use the nodes.
        """
        if self.nodes > 1:
            self._check_uses_nodes(devices)
            return 1
        if not self.gpu_count:
            most = max(1, (self.cpus or 1) // devices)
            return min(self.workers or most, most)
        if devices == 1:
            return self.gpu_count * self.workers_per_gpu
        if devices > self.gpu_count:
            raise UserError(
                f"training.devices: got {devices}, expected at most {self.gpu_count}, the GPUs of "
                f"a task with the profile {self.name}"
            )
        if self.workers_per_gpu > 1:
            raise UserError(
                f"workers_per_gpu: got {self.workers_per_gpu}, expected 1 where a run takes "
                f"{devices} GPUs (training.devices)"
            )
        return self.gpu_count // devices

    def _check_uses_nodes(self, devices: int) -> None:
        """Raise UserError unless runs of `devices` spread evenly over the nodes of a task."""
        most = self.nodes * self.gpu_count
        limit = f" up to {most}, the GPUs of a task" if most else ""
        if devices % self.nodes or (most and devices > most):
            raise UserError(
                f"training.devices: got {devices}, expected a multiple of {self.nodes}{limit}, "
                f"with the profile {self.name} (nodes: {self.nodes})"
            )
        if self.workers_per_gpu > 1:
            raise UserError(
                f"workers_per_gpu: got {self.workers_per_gpu}, expected 1 with the profile "
                f"{self.name} (nodes: {self.nodes})"
            )

    def with_workers_per_gpu(self, count: int) -> Profile:
        """Return a copy with another `workers_per_gpu`; UserError where it asks for no GPU."""
        if not self.gpu_count:
            raise UserError(
                f"--workers-per-gpu: got {count}, but the profile {self.name} asks for no GPU"
            )
        return self.model_copy(update={"workers_per_gpu": count})

    @property
    def most_tasks(self) -> int:
        """Return the most tasks that a sweep is given."""
        return self.tasks or self.throttle or TASKS

    @property
    def minutes(self) -> int:
        """Return the time limit in minutes, rounded up, as SLURM rounds it."""
        return -(-seconds(self.time) // 60)


_WHOLE_NUMBERS = (
    "cpus",
    "nodes",
    "throttle",
    "workers_per_gpu",
    "workers",
    "tasks",
    "signal_seconds",
)
_EXPECTED = {
    **dict.fromkeys(Profile.model_fields, "text on one line"),
    **dict.fromkeys(_WHOLE_NUMBERS, "a whole number"),
    **dict.fromkeys(("gpus", "gpus_per_node"), "a number of GPUs, such as 2 or a100:2"),
    "gres": "SLURM's generic resources, such as gpu:a100:1",
    "memory": "megabytes, or a number with K, M, G or T",
    "time": TIME,
    "setup": "a list of lines of shell",
    "flags": "a mapping, such as {exclusive: true}",
}


def folders() -> list[Path]:
    """Return the folders in which profiles are searched for, nearest first."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return [Path("profiles"), Path(home) / "mixbench" / "profiles", SHIPPED]


def available() -> dict[str, Path]:
    """Return the profiles that can be used by name here: name -> file."""
    files: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, path)
    return dict(sorted(files.items()))


def find(name_or_path: str) -> Path:
    """Return the file of a profile; UserError with the nearest name if there is none."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path:
        if not path.is_file():
            raise UserError(f"profile file {name_or_path!r} does not exist")
        return path
    known = available()
    if name_or_path not in known:
        raise unknown("profile", name_or_path, known, " (or the path of a YAML file)")
    return known[name_or_path]


def load(name_or_path: str) -> Profile:
    """Load the profile of that name, or in that YAML file; UserError if it is not one."""
    path = find(name_or_path)
    raw = yaml_file.load(path, f"a mapping with the keys {', '.join(keys())}")
    return parse(raw, path)


def keys() -> list[str]:
    """Return the keys that a profile may have."""
    return [name for name in Profile.model_fields if name != "name"]


def parse(raw: dict[str, Any], path: Path) -> Profile:
    """Check plain data from the file `path`, whose name is the profile's.

    UserError naming the file, the key, what came and what is allowed.
    """
    if not _NAME.fullmatch(path.stem):
        raise UserError(
            f"{path}: the name of a profile is letters, digits, dots, dashes and underscores"
        )
    for key in raw:
        if key not in keys():
            raise UserError(f"{path}: {unknown('key', key, keys())}")
    given = {key: value for key, value in raw.items() if value is not None}
    return validate({**given, "name": path.stem}, lambda problems: f"{path}: {problems}")


def validate(values: dict[str, Any], message: Callable[[str], str]) -> Profile:
    """Check the values of a profile's keys; UserError with `message(what is wrong)`."""
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        problems = dict.fromkeys(_problem(item) for item in error.errors())
        raise UserError(message("; ".join(problems))) from None


def _problem(item: Any) -> str:
    field = str(item["loc"][0]) if item["loc"] else ""
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{field}: {message}" if field else message
    context = item.get("ctx") or {}
    expected = _EXPECTED[field]
    if item["type"] == "greater_than_equal":
        expected = f"at least {context['ge']}"
    elif item["type"] == "less_than_equal":
        expected = f"at most {context['le']}"
    return f"{field}: got {item['input']!r}, expected {expected}"
