"""Options that several verbs share."""

from __future__ import annotations

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


SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep that was begun.")]
ClusterOption = Annotated[Cluster, typer.Option(help="Where workers are started.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="With slurm: watch until all is done, then report.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Another name.")]
ProfileOption = Annotated[
    str | None,
    typer.Option(help="With --cluster slurm: a profile (see `mixbench profile list`)."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="Workers (default: GPUs, else cores), or with slurm array tasks."),
]
PerGpuOption = Annotated[
    int | None, typer.Option("--workers-per-gpu", help="Workers that share a GPU; default 1.")
]
DeviceOption = Annotated[Device, typer.Option(help="Where to train.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, such as training.epochs=5."),
]
ScaleOption = Annotated[
    str | None,
    typer.Option("--scale", help="The sweep's size, such as quick; default: its first."),
]
UriOption = Annotated[
    str | None,
    typer.Option(help="MLflow tracking URI; default: $MLFLOW_TRACKING_URI, else a local store."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


ParameterOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A parameter, such as alpha=0.2."),
]


def augmentation(method: str, overrides: list[str] | None) -> dict[str, Any]:
    """The `augmentation` section of `METHOD --set KEY=VALUE`; its values are not checked here."""
    from mixbench.experiments.sweep.load import parse_override

    section: dict[str, Any] = {"name": method}
    for text in overrides or []:
        key, value = parse_override(text, "alpha=0.2")
        key = key.removeprefix("augmentation.")
        if key == "name":
            raise UserError(f"--set name: the method is {method}; expected one of its parameters")
        section[key] = value
    return section


def check_cluster(
    cluster: Cluster,
    profile: str | None,
    workers: int | None,
    per_gpu: int | None,
    device: Device,
    wait: bool = False,
) -> None:
    """UserError where the options that say where to work contradict each other."""
    for option, number in (("--workers", workers), ("--workers-per-gpu", per_gpu)):
        if number is not None and number < 1:
            raise UserError(f"{option}: got {number}, expected at least 1")
    if cluster is Cluster.slurm:
        if not profile:
            raise UserError(
                "--profile: missing; --cluster slurm needs one (see `mixbench profile list`)"
            )
        if device is not Device.auto:
            raise UserError("--device: with --cluster slurm the profile decides")
    elif profile is not None:
        raise UserError(f"--profile: got {profile!r}, which is for --cluster slurm alone")
    elif wait:
        raise UserError("--wait: is for --cluster slurm; the local cluster always waits")
