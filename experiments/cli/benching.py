"""`mixbench bench augment`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mixbench.experiments.cli.options import Device
from mixbench.experiments.errors import UserError, unknown

group = typer.Typer(help="Speed beside timm, torchvision and kornia, on this machine.")


@group.callback()
def bench() -> None:
    """Speed beside timm, torchvision and kornia, on this machine."""


@group.command("augment")
def augment(
    device: Annotated[Device, typer.Option(help="Where to mix.")] = Device.auto,
    shapes: Annotated[
        str | None,
        typer.Option(help="Batches as BxCxHxW, with commas; default: the three of the targets."),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Methods, with commas; default: all that have a peer.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="For each method and shape, all contestants together.")
    ] = 2.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object, for a program.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write augment.md, .json and .png into this folder.")
    ] = None,
) -> None:
    """Mixing beside others' code in one run: images/s, times the time of a copy, peak memory.

    Example: mixbench bench augment --methods cutmix,mixup --shapes 128x3x32x32
    """
    wanted_shapes = _shapes(shapes)
    names = [name.strip() for name in methods.split(",")] if methods is not None else None
    if out is not None:
        _make(out)

    import torch

    from mixbench.experiments.benchmarks import augment as benchmark
    from mixbench.experiments.benchmarks import peers
    from mixbench.experiments.store.files import atomic_write

    for name in names or ():
        if name not in peers.METHODS:
            raise unknown("method", name, peers.METHODS)
    if device is Device.cuda and not torch.cuda.is_available():
        raise UserError("--device: got 'cuda', but there is no CUDA device here")
    on_gpu = device is not Device.cpu and torch.cuda.is_available()
    try:
        result = benchmark.measure(
            list(dict.fromkeys(names or peers.METHODS)),
            wanted_shapes or benchmark.SHAPES,
            torch.device("cuda" if on_gpu else "cpu"),
            seconds,
            tell=lambda what: print(f"measuring {what}", file=sys.stderr),
        )
    except RuntimeError as error:
        # Of a GPU it has a type of its own, of the CPU these words alone.
        full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not full:
            raise
        raise UserError("--shapes: the memory is too small for these batches") from None
    text = benchmark.table(result)
    print(json.dumps(result) if as_json else text)
    if out is not None:
        from mixbench.analysis.figures.speed import speed_figure

        written = {
            "augment.md": benchmark.page(result).encode(),
            "augment.json": (json.dumps(result, indent=1) + "\n").encode(),
            "augment.png": speed_figure(result["rows"], result["machine"]["device"]),
        }
        for name, content in written.items():
            atomic_write(out / name, content)
        print(f"wrote {', '.join(str(out / name) for name in written)}", file=sys.stderr)


def _make(folder: Path) -> None:
    """The folder, before anything is measured: hours later is too late to hear of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--out: {str(folder)!r} is a file, expected a folder") from None
    except FileNotFoundError:
        raise UserError(f"--out: {str(folder)!r} can't be made, expected a folder") from None


def _shapes(text: str | None) -> list[tuple[int, ...]]:
    found = []
    for part in text.split(",") if text is not None else ():
        sides = part.strip().split("x")
        if len(sides) != 4 or not all(side.isdecimal() and int(side) for side in sides):
            raise UserError(f"--shapes: got {part!r}, expected BxCxHxW such as 128x3x32x32")
        found.append(tuple(map(int, sides)))
    return found
