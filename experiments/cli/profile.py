"""`mixbench profile list`, `show` and `check`."""

from __future__ import annotations

from typing import Annotated

import typer

from mixbench.experiments.cli.options import SlurmOption

profile_group = typer.Typer(help="SLURM profiles: what a cluster gives one task of a sweep.")

ProfileArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A profile's name, or the path of a YAML file.")
]


@profile_group.command("list")
def list_profiles() -> None:
    """List the profiles that can be used by name here."""
    from rich.console import Console
    from rich.table import Table

    from mixbench.experiments.errors import UserError
    from mixbench.slurm import profile

    table = Table("profile", "what", "from", box=None)
    for name, path in profile.available().items():
        try:
            what = profile.load(str(path)).description
        except UserError as error:
            what = str(error)
        shipped = path.parent == profile.SHIPPED
        table.add_row(name, what, "mixbench" if shipped else str(path))
    Console().print(table)


@profile_group.command("show")
def show_profile(name: ProfileArgument) -> None:
    """Print a profile and the batch script made from it."""
    from pathlib import Path

    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm import profile
    from mixbench.slurm.script import TaskScript

    path = profile.find(name)
    loaded = profile.load(name)
    print(f"# {path}\n{path.read_text(encoding='utf-8').rstrip()}\n")
    sweep = SweepFolder(Path("SWEEP"))
    print(TaskScript(sweep, loaded, Path("SWEEP/code")).text(loaded.most_tasks))


@profile_group.command("check")
def check_profile(name: ProfileArgument, options: SlurmOption = None) -> None:
    """Ask SLURM whether it would accept the profile's jobs, and try their set-up here.

    SLURM: sbatch --test-only. Here: the lines of `setup`, and whether the tasks' Python can run.
    """
    from mixbench.slurm import check_here, overrides, profile, submit

    loaded = overrides.apply(profile.load(name), options or [])
    print(submit.check_accepted(loaded), flush=True)
    for line in check_here.check(loaded):
        print(line)
