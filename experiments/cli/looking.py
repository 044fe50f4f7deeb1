"""`mixbench list` and `mixbench preview`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mixbench.experiments.cli.options import ParameterOption, augmentation
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural


class Shown(StrEnum):
    """What `mixbench list` can show."""

    all = "all"
    augmentations = "augmentations"
    datasets = "datasets"
    models = "models"
    sweeps = "sweeps"
    measurements = "measurements"


def list_(
    what: Annotated[Shown, typer.Argument(help="What to list.")] = Shown.all,
) -> None:
    """Augmentations with their parameters and papers, data sets, models, sweeps, measurements.

    Example: mixbench list augmentations
    """
    from mixbench.experiments.cli import list as listing

    listing.show(what.value)


def preview(
    method: Annotated[str, typer.Argument(help="An augmentation, such as cutmix.")],
    dataset: Annotated[
        str, typer.Option(help="A data set, or imagefolder:/path.")
    ] = "fashion_mnist",
    overrides: ParameterOption = None,
    staging: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEDULE",
            help="A timeline instead: the name of a schedule, a YAML file with `staging` or "
            "`phases`, or all. Can be given several times.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="With --staging; default: 30.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The PNG; default: preview_METHOD.png, or preview_staging.png."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=20)] = 4,
    columns: Annotated[int, typer.Option(min=1, max=10)] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a picture of mixed images with their label weights, or a timeline of schedules.

    Example: mixbench preview cutmix --set alpha=0.2 --dataset digits

    Example: mixbench preview cutmix --staging hesitate --staging cautious
    """
    from mixbench.experiments.config import resolve

    wanted = augmentation(method, overrides)
    checked = resolve.parse({"dataset": {"name": dataset}, "augmentation": wanted})
    path = out or Path("preview_staging.png" if staging else f"preview_{method}.png")
    if not path.parent.is_dir():
        raise UserError(f"--out: the folder {str(path.parent)!r} does not exist")
    if path.is_dir():
        raise UserError(f"--out: {str(path)!r} is a folder, expected the name of a PNG")
    if staging:
        _timelines(wanted, dataset, staging, epochs or 30, path)
        return
    if epochs is not None:
        raise UserError("--epochs: is for --staging alone")

    from mixbench.experiments.data import pictures
    from mixbench.experiments.data.load import load
    from mixbench.experiments.store.files import atomic_write

    loaded = load(checked.dataset, "cpu")
    picture = pictures.preview(loaded, checked.augmentation, rows=rows, columns=columns, seed=seed)
    atomic_write(path, picture)
    print(f"wrote {path}")


def _timelines(
    method: dict[str, Any], dataset: str, schedules: list[str], epochs: int, path: Path
) -> None:
    """Write the timelines of some schedules, named or in files, for a method to `path`."""
    from mixbench.analysis.figures.timeline import Timeline, timeline_figure
    from mixbench.experiments.config import resolve
    from mixbench.experiments.manage.timeline import timeline
    from mixbench.experiments.staging.moments import steps_of
    from mixbench.experiments.store.files import atomic_write

    drawn = []
    for name, sections in _sections(schedules):
        raw = {"dataset": {"name": dataset}, "augmentation": method, **sections}
        raw["training"] = {"epochs": epochs}
        try:
            made = resolve.parse(raw)
        except UserError as error:
            raise UserError(f"--staging {name}: {error}") from None
        # A hundred steps an epoch are as fine as can be seen.
        steps = steps_of(made.unfreezings, 100 * epochs, 100)
        unfreezings = [step / 100 for step in steps if step is not None]
        drawn.append(Timeline(name, timeline(made), unfreezings, made.augmentation))
    title = f"{method['name']}, {plural(epochs, 'epoch')}"
    atomic_write(path, timeline_figure(drawn, title))
    print(f"wrote {path}")


def _sections(schedules: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """A name and the sections of a configuration, for each schedule that was asked for."""
    from mixbench.experiments import yaml_file
    from mixbench.experiments.errors import unknown
    from mixbench.experiments.staging.named import NAMED

    expected = "a mapping with `staging` (and `transfer`) or with `phases`"
    found: dict[str, dict[str, Any]] = {}
    for text in schedules:
        if text == "all":
            found |= {name: {"staging": name} for name in NAMED}
        elif text in NAMED:
            found[text] = {"staging": text}
        elif Path(text).suffix in (".yaml", ".yml"):
            if not Path(text).is_file():
                raise UserError(f"--staging: there is no file {text!r}")
            content = yaml_file.load(Path(text), expected)
            sections = content if "staging" in content else {"staging": content}
            if not {"staging", "phases"} & set(content) or set(sections) - {"staging", "transfer"}:
                raise UserError(f"{text}: expected {expected}, got {', '.join(map(str, content))}")
            found[Path(text).stem] = sections
        else:
            raise unknown("schedule", text, [*NAMED, "all"], "; or the name of a YAML file")
    return list(found.items())
