"""The options that verbs share, each declared once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from mixbench.experiments.errors import UserError


class Device(StrEnum):
    """Where runs are trained."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Cluster(StrEnum):
    """Where workers are started."""

    local = "local"
    slurm = "slurm"


# Arguments.
SweepArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep that was started (see `mixbench status`).")
]
OptionalSweepArgument = Annotated[
    str | None,
    typer.Argument(metavar="[SWEEP]", help="A sweep that was started (see `mixbench status`)."),
]
OptionalSweepsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SWEEP]...", help="Sweeps that were started, or their folders."),
]
AnySweepArgument = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="A shipped sweep (see `mixbench list sweeps`), a YAML file, or a started sweep.",
    ),
]
MethodArgument = Annotated[
    str, typer.Argument(metavar="METHOD", help="An augmentation, such as cutmix, or your own.")
]

# Which runs.
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as training.epochs=5."),
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a parameter, such as alpha=0.2."),
]
MeasurementSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as attack.steps=20."),
]
NameOption = Annotated[str | None, typer.Option("--name", help="Rename the sweep.")]
ScaleOption = Annotated[
    str | None,
    typer.Option("--scale", help="Size of the sweep, such as quick; default: its first."),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MEASUREMENT,...",
        help="Measurements, separated by commas: calibration,attack; default: all.",
    ),
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Also repeat measurements that exist already.")
]

# Where workers run.
ClusterOption = Annotated[Cluster, typer.Option(help="Where to start workers.")]
ProfileOption = Annotated[
    str | None,
    typer.Option(help="With --cluster slurm: the profile (see `mixbench profile list`)."),
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="KEY=VALUE",
        help="Over the profile: time=2:00:00, partition=gpu, dependency=afterok:84, mail-type=END.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="Workers; default: one per GPU, else per core. With slurm: array tasks."),
]
PerGpuOption = Annotated[
    int | None, typer.Option("--workers-per-gpu", help="Workers that share a GPU; default: 1.")
]
DeviceOption = Annotated[Device, typer.Option(help="Device to use.")]
RetriesOption = Annotated[
    int, typer.Option(min=0, help="Retries of a run that crashes or hangs without progress.")
]
HangOption = Annotated[
    float,
    typer.Option("--hang-after", min=10, help="Seconds without a heartbeat: the worker hangs."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what `mixbench plan` prints; start nothing.")
]
ReuseOption = Annotated[
    bool,
    typer.Option(
        "--reuse/--no-reuse", help="Take over runs that another sweep beside it has finished."
    ),
]
UntilDecidedOption = Annotated[
    bool,
    typer.Option(
        "--until-decided",
        help="Add replicates to undecided contrasts, look by look, as `decide` says.",
    ),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="With slurm: watch until all is done, then report.")
]

# Afterwards.
TrackOption = Annotated[bool, typer.Option(help="Copy results to MLflow at the end.")]
ReportOption = Annotated[bool, typer.Option(help="Write the report at the end.")]
UriOption = Annotated[
    str | None,
    typer.Option(help="MLflow tracking URI; default: $MLFLOW_TRACKING_URI, else a local store."),
]

# Everywhere.
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def names_of(only: Sequence[str] | None, expected: str) -> list[str]:
    """Return the names of all `--only`, each once; empty where it was not given.

    Raises:
        UserError: It was given without a name; the message says what is `expected`.
    """
    names = [name.strip() for text in only or () for name in text.split(",") if name.strip()]
    if only and not names:
        raise UserError(f"--only: got {','.join(only)!r}, expected {expected}")
    return list(dict.fromkeys(names))


def augmentation_section(method: str, overrides: list[str] | None) -> dict[str, Any]:
    """Return the `augmentation` section of `METHOD --set KEY=VALUE`; values aren't checked yet."""
    from mixbench.experiments.sweep.load import parse_override

    section: dict[str, Any] = {"name": method}
    for text in overrides or []:
        key, value = parse_override(text, "alpha=0.2")
        key = key.removeprefix("augmentation.")
        if key == "name":
            raise UserError(f"--set name: the method is {method}; expected one of its parameters")
        section[key] = value
    return section
