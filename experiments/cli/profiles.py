"""`mixbench profile list`, `show` and `check`."""

from __future__ import annotations

from typing import Annotated

import typer

group = typer.Typer(help="SLURM profiles: what a cluster is to give one task of a sweep.")

ProfileArgument = Annotated[str, typer.Argument(help="A profile's name, or the path of a YAML.")]


@group.command("list")
def list_() -> None:
    """The profiles that a name finds from here, and what they ask for."""
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


@group.command()
def show(name: ProfileArgument) -> None:
    """The file of a profile, and the batch script that it makes."""
    from pathlib import Path

    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm import profile, submit

    path = profile.find(name)
    loaded = profile.load(name)
    print(f"# {path}\n{path.read_text(encoding='utf-8').rstrip()}\n")
    sweep = SweepFolder(Path("SWEEP"))
    print(submit.script(sweep, loaded, Path("SWEEP/code"), loaded.most_tasks))


@group.command()
def check(name: ProfileArgument) -> None:
    """Ask SLURM whether it would take the profile's jobs (sbatch --test-only)."""
    from mixbench.slurm import profile, submit

    loaded = profile.load(name)
    print(submit.check(loaded))
