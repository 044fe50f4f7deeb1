"""`mixbench bench augment`: the speed of mixing beside other libraries."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixbench.experiments.cli.options import Device, DeviceOption, JsonOption
from mixbench.experiments.errors import UserError, unknown

if TYPE_CHECKING:
    import torch

bench_group = typer.Typer(help="Compare speed with timm, torchvision and kornia on this machine.")


@bench_group.callback()
def bench() -> None:
    """Compare speed with timm, torchvision and kornia on this machine."""


@bench_group.command("augment")
def augment(
    device: DeviceOption = Device.auto,
    shapes: Annotated[
        str | None,
        typer.Option(help="Batches as BxCxHxW, separated by commas; default: the three targets."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Methods, separated by commas; default: all that have a peer."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="For each method and shape, all libraries together.")
    ] = 2.0,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write augment.md, .json and .png to this folder.")
    ] = None,
) -> None:
    """Measure mixing beside other libraries: images/s, time relative to a copy, peak memory.

    Example: mixbench bench augment --methods cutmix,mixup --shapes 128x3x32x32
    """
    wanted_shapes = _parse_shapes(shapes)
    names = [name.strip() for name in methods.split(",")] if methods is not None else []
    if out is not None:
        _make_folder(out)

    from mixbench.experiments.benchmarks import augment as benchmark
    from mixbench.experiments.benchmarks import peers

    for name in names:
        if name not in peers.METHODS:
            raise unknown("method", name, peers.METHODS)
    result = _measure(
        list(dict.fromkeys(names or peers.METHODS)),
        wanted_shapes or benchmark.SHAPES,
        _torch_device(device),
        seconds,
    )
    print(json.dumps(result) if as_json else benchmark.table(result))
    if out is not None:
        _write(out, result)


def _torch_device(device: Device) -> torch.device:
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise UserError("--device: got 'cuda', but there is no CUDA device here")
    on_gpu = device is not Device.cpu and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _measure(
    methods: list[str], shapes: Any, device: torch.device, seconds: float
) -> dict[str, Any]:
    import torch

    from mixbench.experiments.benchmarks import augment as benchmark

    try:
        return benchmark.measure(
            methods,
            shapes,
            device,
            seconds,
            tell=lambda what: print(f"measuring {what}", file=sys.stderr),
        )
    except RuntimeError as error:
        # A GPU has an error type of its own for this, a CPU only these words.
        full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not full:
            raise
        raise UserError("--shapes: the memory is too small for these batches") from None


def _write(folder: Path, result: dict[str, Any]) -> None:
    from mixbench.analysis.figures.speed import speed_figure
    from mixbench.experiments.benchmarks import augment as benchmark
    from mixbench.experiments.store.files import atomic_write

    contents = {
        "augment.md": benchmark.page(result).encode(),
        "augment.json": (json.dumps(result, indent=1) + "\n").encode(),
        "augment.png": speed_figure(result["rows"], result["machine"]["device"]),
    }
    for name, content in contents.items():
        atomic_write(folder / name, content)
    print(f"wrote {', '.join(str(folder / name) for name in contents)}", file=sys.stderr)


def _make_folder(folder: Path) -> None:
    """Make the folder before anything is measured: hours later is too late for an error."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--out: {str(folder)!r} is a file, expected a folder") from None
    except FileNotFoundError:
        raise UserError(f"--out: {str(folder)!r} can't be made, expected a folder") from None


def _parse_shapes(text: str | None) -> list[tuple[int, ...]]:
    shapes = []
    for part in text.split(",") if text is not None else ():
        sides = part.strip().split("x")
        if len(sides) != 4 or not all(side.isdecimal() and int(side) for side in sides):
            raise UserError(f"--shapes: got {part!r}, expected BxCxHxW such as 128x3x32x32")
        shapes.append(tuple(map(int, sides)))
    return shapes
