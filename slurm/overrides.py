"""`--slurm KEY=VALUE`: options for one command, over those of its profile."""

from __future__ import annotations

from collections.abc import Sequence

from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.slurm import profile
from mixbench.slurm.profile import Profile
from mixbench.slurm.sbatch import KEYS_OF_FLAGS, OPTIONS, RESERVED_FLAGS

GPU_KEYS = ("gres", "gpus", "gpus_per_node")
_IN_THE_PROFILE = ("setup", "container", "python", "flags", "description", "name")
"""Keys that say how a task runs, not what it gets."""


def apply(chosen: Profile, options: Sequence[str]) -> Profile:
    """Return the profile with these options; UserError for one that is unknown or mixbench's own.

    A key is one of the profile's (`time`, `partition`, `cpus`, ...) or a long option of sbatch
    (`dependency`, `mail-type`, ...), whose value `true` means that it takes none. What the profile
    says of GPUs is replaced as a whole.
    """
    if not options:
        return chosen
    raw = chosen.model_dump(exclude_unset=True)
    flags = dict(chosen.flags)
    given: dict[str, str] = {}
    keys = set(profile.keys())
    for option in options:
        key, value = _split(option)
        if key in given:
            raise UserError(f"--slurm {key}: given twice, expected once")
        given[key] = value
        if key in keys:
            if key in GPU_KEYS:
                for other in GPU_KEYS:
                    raw.pop(other, None)
            raw[key] = value
        else:
            flags.pop(_OPPOSITES.get(key, key), None)
            flags[key] = True if value == "true" else value
    name = f"{chosen.name} with --slurm {' '.join(options)}"
    return profile.validate({**raw, "flags": flags, "name": name}, lambda text: f"--slurm {text}")


_OPPOSITES = {"requeue": "no-requeue", "no-requeue": "requeue"}


def _split(option: str) -> tuple[str, str]:
    """Return the key, as profiles name it, and the value; UserError where they are none."""
    name, equals, value = option.partition("=")
    name, value = name.strip().removeprefix("--"), value.strip()
    if not name or not equals or not value:
        raise UserError(f"--slurm: got {option!r}, expected KEY=VALUE, such as time=2:00:00")
    key = KEYS_OF_FLAGS.get(name, name)
    if key in _IN_THE_PROFILE:
        raise UserError(f"--slurm {name}: expected in the profile, not on the command line")
    if name in RESERVED_FLAGS:
        raise UserError(f"--slurm {name}: mixbench sets this itself")
    known = sorted({*profile.keys(), *OPTIONS} - {*_IN_THE_PROFILE})
    if key not in known and name not in known:
        hint = did_you_mean(name, known) or f"; such as {', '.join(_COMMON)}"
        raise UserError(
            f"--slurm: unknown key {name!r}{hint} (keys of profiles and long options of sbatch; a "
            "newer one goes into the profile's flags)"
        )
    if not value.isprintable():
        raise UserError(f"--slurm {name}: got {value!r}, expected one line of text")
    if value == "false":
        raise UserError(f"--slurm {name}: got 'false', expected a value, or true")
    return key, value


_COMMON = ("time", "partition", "account", "qos", "dependency", "mail-type")
