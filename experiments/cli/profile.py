"""`mixbench profile list`, `show` and `check`."""

from __future__ import annotations

from typing import Annotated

import typer

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
def check_profile(name: ProfileArgument) -> None:
    """Ask SLURM whether it would accept the profile's jobs (sbatch --test-only)."""
    from mixbench.slurm import profile, submit

    loaded = profile.load(name)
    print(submit.check_accepted(loaded))
