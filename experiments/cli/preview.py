"""`mixbench preview`: pictures of mixed images, or of schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mixbench.experiments.cli.options import MethodArgument, ParameterOption, augmentation_section
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural


def preview(
    method: MethodArgument,
    dataset: Annotated[
        str, typer.Option(help="A data set, or imagefolder:/path.")
    ] = "fashion_mnist",
    overrides: ParameterOption = None,
    staging: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEDULE",
            help="Draw the timeline of a schedule instead: its name, a YAML file with `staging` or "
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
    """Draw mixed images with their label weights, or a timeline of schedules, as a PNG.

    Example: mixbench preview cutmix --set alpha=0.2 --dataset digits

    Example: mixbench preview cutmix --staging hesitate --staging cautious
    """
    from mixbench.experiments.config import resolve

    augmentation = augmentation_section(method, overrides)
    config = resolve.parse({"dataset": {"name": dataset}, "augmentation": augmentation})
    path = out or Path("preview_staging.png" if staging else f"preview_{method}.png")
    if not path.parent.is_dir():
        raise UserError(f"--out: the folder {str(path.parent)!r} does not exist")
    if path.is_dir():
        raise UserError(f"--out: {str(path)!r} is a folder, expected the name of a PNG")
    if staging:
        _draw_timelines(augmentation, dataset, staging, epochs or 30, path)
        return
    if epochs is not None:
        raise UserError("--epochs: is for --staging alone")

    from mixbench.experiments.data import pictures
    from mixbench.experiments.data.load import load
    from mixbench.experiments.store.files import atomic_write

    images = load(config.dataset, "cpu")
    picture = pictures.preview(images, config.augmentation, rows=rows, columns=columns, seed=seed)
    atomic_write(path, picture)
    print(f"wrote {path}")


def _draw_timelines(
    augmentation: dict[str, Any], dataset: str, schedules: list[str], epochs: int, path: Path
) -> None:
    """Draw schedules, named or in files, for a method and write them to `path`."""
    from mixbench.analysis.figures.timeline import Timeline, timeline_figure
    from mixbench.experiments.config import resolve
    from mixbench.experiments.manage.timeline import timeline
    from mixbench.experiments.staging.moments import steps_of
    from mixbench.experiments.store.files import atomic_write

    timelines = []
    for name, sections in _schedule_sections(schedules):
        raw = {"dataset": {"name": dataset}, "augmentation": augmentation, **sections}
        raw["training"] = {"epochs": epochs}
        try:
            config = resolve.parse(raw)
        except UserError as error:
            raise UserError(f"--staging {name}: {error}") from None
        # A hundred steps an epoch are as fine as can be seen.
        steps = steps_of(config.unfreezings, 100 * epochs, 100)
        unfreezings = [step / 100 for step in steps if step is not None]
        timelines.append(Timeline(name, timeline(config), unfreezings, config.augmentation))
    title = f"{augmentation['name']}, {plural(epochs, 'epoch')}"
    atomic_write(path, timeline_figure(timelines, title))
    print(f"wrote {path}")


def _schedule_sections(schedules: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return a name and the sections of a configuration for each schedule asked for."""
    from mixbench.experiments import yaml_file
    from mixbench.experiments.errors import unknown
    from mixbench.experiments.staging.named import NAMED

    expected = "a mapping with `staging` (and `transfer`) or with `phases`"
    by_name: dict[str, dict[str, Any]] = {}
    for text in schedules:
        if text == "all":
            by_name |= {name: {"staging": name} for name in NAMED}
        elif text in NAMED:
            by_name[text] = {"staging": text}
        elif Path(text).suffix in (".yaml", ".yml"):
            if not Path(text).is_file():
                raise UserError(f"--staging: there is no file {text!r}")
            content = yaml_file.load(Path(text), expected)
            sections = content if "staging" in content else {"staging": content}
            if not {"staging", "phases"} & set(content) or set(sections) - {"staging", "transfer"}:
                raise UserError(f"{text}: expected {expected}, got {', '.join(map(str, content))}")
            by_name[Path(text).stem] = sections
        else:
            raise unknown("schedule", text, [*NAMED, "all"], "; or the name of a YAML file")
    return list(by_name.items())
