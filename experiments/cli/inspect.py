"""`mixbench inspect`: what a sweep would read from an image folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.errors import UserError

if TYPE_CHECKING:
    from mixbench.experiments.data.inspection.inspect import Inspection


def inspect(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER", help="A folder of images, or the name of a data set of your own."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    samples: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Where to draw samples; default: inspect_FOLDER.png, and none with --json.",
        ),
    ] = None,
) -> None:
    """Show what a sweep would read from a folder of images, and what is odd about it.

    Splits, classes, sizes, modes, unreadable files, duplicates, what a square crop leaves out.
    Every image is decoded once. Nothing is written into the folder.

    Example: mixbench inspect photos/flowers
    """
    import json

    from mixbench.experiments.config.datasets import boxes_path, is_own
    from mixbench.experiments.data.inspection import words
    from mixbench.experiments.data.inspection.inspect import inspect as look_at
    from mixbench.experiments.data.inspection.own import own_as_json, own_as_text

    if samples is not None and (samples.is_dir() or not samples.parent.is_dir()):
        raise UserError(f"--samples: got {str(samples)!r}, expected the name of a PNG in a folder")
    if boxes_path(folder) is not None:
        from mixbench.experiments.data.inspection.boxes import boxes_as_json, boxes_as_text

        print(json.dumps(boxes_as_json(folder), indent=2) if as_json else boxes_as_text(folder))
        return
    if is_own(folder):
        print(json.dumps(own_as_json(folder), indent=2) if as_json else own_as_text(folder))
        return
    seen = look_at(folder, _progress() if sys.stderr.isatty() else None)
    if as_json:
        print(json.dumps(words.as_json(seen), indent=2))
    else:
        print(words.as_text(seen))
    _draw(seen, samples, quiet=as_json)


def _draw(seen: Inspection, wanted: Path | None, *, quiet: bool) -> None:
    """Write the picture of samples where it was asked for, or beside, outside of the folder."""
    from mixbench.experiments.data.inspection.samples import samples
    from mixbench.experiments.store.files import atomic_write

    root = seen.listing.root
    if wanted is None:
        here = Path.cwd()
        if quiet or here.is_relative_to(root) or not os.access(here, os.W_OK):
            return
    path = wanted or Path(f"inspect_{seen.listing.source.name}.png")
    atomic_write(path, samples(seen))
    if not quiet:
        print(f"\nwrote {path}")


def _progress() -> Callable[[int, int], None]:
    """Show on the terminal how many images have been read, a few times a second."""
    last = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal last
        if done == total:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last > 0.2:
            last = time.monotonic()
            print(f"\r{done:,} of {total:,} images", end="", file=sys.stderr, flush=True)

    return tell
