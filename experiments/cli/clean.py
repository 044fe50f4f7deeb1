"""`mixbench clean`: delete what a sweep no longer needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli import names, slurm_queue
from mixbench.experiments.cli.options import SweepArgument
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.manage.dropped import Dropped


def clean(
    name: SweepArgument,
    delete: Annotated[
        bool, typer.Option("--delete", "--yes", "-y", help="Delete; without it only list.")
    ] = False,
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Also delete checkpoint.pt, the network, of done runs."),
    ] = False,
    dropped: Annotated[
        bool,
        typer.Option("--dropped", help="Also delete runs that the sweep no longer asks for."),
    ] = False,
) -> None:
    """List files of a sweep that are no longer needed; with --delete, delete them.

    That is: earlier checkpoints of done runs, half-written files, old claims, logs of workers that
    ended, copies of the code that no worker runs, scripts and logs of ended jobs, decoded pictures
    of its image folders. Results, metrics, predictions and whatever an unfinished run needs always
    stay, but for runs that the sweep no longer asks for, with --dropped.

    Example: mixbench clean demo
    """
    from mixbench.experiments.manage import clean as cleaning
    from mixbench.experiments.manage import dropped as removing

    folder = names.started_sweep(name)
    items = cleaning.unneeded(folder, weights=weights, jobs=slurm_queue.job_ids(folder))
    found = removing.find(folder) if dropped else removing.Dropped()
    kinds: dict[str, list[int]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item.size)
    if found.sizes or found.remains:
        kinds["runs no longer asked for"] = [
            *found.sizes.values(),
            *map(cleaning.freed_by, found.remains),
        ]
    if delete and kinds:
        if dropped:
            # First: it is refused while the sweep is being grown, and then nothing is deleted.
            found = removing.remove(folder)
        freed = cleaning.delete(items) + found.size
    _print_kinds(kinds)
    _print_kept(found)
    shared = sum(item.is_shared for item in items)
    if shared:
        print(f"{plural(shared, 'file')} shared with other sweeps, which keep them: nothing freed")
    if not kinds:
        print(f"{folder.name}: nothing to clean")
    elif delete:
        print(f"{folder.name}: {_bytes(freed)} freed")
    else:
        options = f"{' --weights' if weights else ''}{' --dropped' if dropped else ''}"
        total = sum(map(sum, kinds.values()))
        print(
            f"{folder.name}: {_bytes(total)} can be freed; nothing was deleted. "
            f"To do it: mixbench clean {folder.name}{options} --delete"
        )


def _print_kinds(kinds: Mapping[str, Sequence[int]]) -> None:
    width = max(map(len, kinds), default=0)
    for kind, sizes in kinds.items():
        print(f"  {kind:{width}}  {len(sizes):6,}  {_bytes(sum(sizes)):>9}")


def _print_kept(found: Dropped) -> None:
    """Say which runs stay though they are no longer asked for, and why."""
    reasons: dict[str, list[str]] = {}
    for key, why in found.kept.items():
        reasons.setdefault(why, []).append(key)
    for why, keys in reasons.items():
        verb = "stays" if len(keys) == 1 else "stay"
        print(
            f"{plural(len(keys), 'run')} no longer asked for {verb}, because {why}: "
            f"{names.a_few(keys)}"
        )


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
