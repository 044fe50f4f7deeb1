"""`mixbench clean`: delete what a sweep no longer needs."""

from __future__ import annotations

from typing import Annotated

import typer

from mixbench.experiments.cli import names, slurm_queue
from mixbench.experiments.cli.options import SweepArgument
from mixbench.experiments.text import plural


def clean(
    name: SweepArgument,
    delete: Annotated[
        bool, typer.Option("--delete", "--yes", "-y", help="Delete; without it only list.")
    ] = False,
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Also delete checkpoint.pt, the network, of done runs."),
    ] = False,
) -> None:
    """List files of a sweep that are no longer needed; with --delete, delete them.

    That is: earlier checkpoints of done runs, half-written files, old claims, logs of workers that
    ended, copies of the code that no worker runs, scripts and logs of ended jobs. Results, metrics,
    predictions and whatever an unfinished run needs always stay.

    Example: mixbench clean demo
    """
    from mixbench.experiments.manage import clean as cleaning

    folder = names.started_sweep(name)
    items = cleaning.unneeded(folder, weights=weights, jobs=slurm_queue.job_ids(folder))
    if not items:
        print(f"{folder.name}: nothing to clean")
        return
    kinds: dict[str, list[int]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item.size)
    width = max(map(len, kinds))
    for kind, sizes in kinds.items():
        print(f"  {kind:{width}}  {len(sizes):6,}  {_bytes(sum(sizes)):>9}")
    total = sum(item.size for item in items)
    shared = sum(item.is_shared for item in items)
    if shared:
        print(f"{plural(shared, 'file')} shared with other sweeps, which keep them: nothing freed")
    if delete:
        print(f"{folder.name}: {_bytes(cleaning.delete(items))} freed")
    else:
        print(
            f"{folder.name}: {_bytes(total)} can be freed; nothing was deleted. "
            f"To do it: mixbench clean {folder.name}{' --weights' if weights else ''} --delete"
        )


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
