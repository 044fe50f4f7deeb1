"""`mixbench preview`: pictures of mixed images, or of schedules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixbench.experiments.cli.options import ParameterOption, augmentation_section
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.config.schema import RunConfig

_MOST_METHODS = 12


def preview(
    methods: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD...", help="An augmentation, or several to compare on the same images."
        ),
    ],
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
        typer.Option(
            help="The PNG; default: preview_METHOD.png, preview_methods.png or preview_staging.png."
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, max=20, help="Of several methods: one image each.")
    ] = 4,
    columns: Annotated[
        int | None, typer.Option(min=1, max=10, help="Of one method; default: 3.")
    ] = None,
    size: Annotated[
        int, typer.Option(min=32, max=1024, help="The side of a picture, in pixels.")
    ] = 130,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Draw mixed images with their label weights, or a timeline of schedules, as a PNG.

    The images are those that a training sees: cut, padded and cropped as the keys `dataset` and
    `training` say, which can be set too.

    Example: mixbench preview cutmix --set alpha=0.2 --dataset digits

    Example: mixbench preview cutmix mixup fmix --rows 6 --size 200

    Example: mixbench preview mixup --dataset imagefolder:photos --set dataset.image_size=96
    --set training.crop=none

    Example: mixbench preview cutmix --staging hesitate --staging cautious
    """
    from mixbench.experiments.config import datasets, resolve

    sections, parameters = _by_section(overrides or [])
    _check_methods(methods, columns, staging)
    asked = _each_section(methods, parameters)
    sections["dataset"] = {"name": dataset, **sections["dataset"]}
    targets = sections["dataset"].get("targets") or datasets.info(dataset).targets[0]
    sections |= _network_for(str(targets))
    configs = [resolve.parse({**sections, "augmentation": one}) for one in asked]
    config = configs[0]
    drawn = "staging" if staging else methods[0] if len(methods) == 1 else "methods"
    path = out or Path(f"preview_{drawn}.png")
    if not path.parent.is_dir():
        raise UserError(f"--out: the folder {str(path.parent)!r} does not exist")
    if path.is_dir():
        raise UserError(f"--out: {str(path)!r} is a folder, expected the name of a PNG")
    if staging:
        _draw_timelines(asked[0], config.dataset.name, staging, epochs or 30, path)
        return
    if epochs is not None:
        raise UserError("--epochs: is for --staging alone")

    _draw(configs, rows, columns or 3, seed, size, path)


def _draw(
    configs: list[RunConfig], rows: int, columns: int, seed: int, size: int, path: Path
) -> None:
    """Draw one method, or several side by side, and write them to `path`."""
    from mixbench.experiments.config.data_text import training_images
    from mixbench.experiments.data import preview_sheets
    from mixbench.experiments.data.load import load
    from mixbench.experiments.store.files import atomic_write

    config = configs[0]
    crops = config.training.random_crops
    images = load(config.dataset, "cpu", crops=crops)
    is_usual = not crops and not config.dataset.fit
    seen = "" if is_usual else training_images(config)
    look = preview_sheets.Look(seed, size, crops, seen)
    if len(configs) == 1:
        picture = preview_sheets.preview(
            images, config.augmentation, rows=rows, columns=columns, look=look
        )
    else:
        each = [one.augmentation for one in configs]
        picture = preview_sheets.comparison(images, each, rows=rows, look=look)
    atomic_write(path, picture)
    for line in (seen, *images.notes):
        if line:
            print(line)
    print(f"wrote {path}")


def _check_methods(methods: list[str], columns: int | None, staging: list[str] | None) -> None:
    """Raise UserError where several methods can't be drawn as they are asked for."""
    if len(methods) > _MOST_METHODS:
        raise UserError(f"got {len(methods)} methods, expected at most {_MOST_METHODS}")
    twice = next((name for name in methods if methods.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"got {twice} twice, expected each method once")
    if len(methods) > 1 and columns is not None:
        raise UserError("--columns: several methods have a column each; expected it with one alone")
    if len(methods) > 1 and staging:
        raise UserError(f"--staging: got {len(methods)} methods, expected one")


def _each_section(methods: list[str], overrides: list[str]) -> list[dict[str, Any]]:
    """Return the `augmentation` section of each method; of several, a parameter is set where it is.

    What no method has is left in the first section, whose check refuses it.
    """
    from mixbench import augmentations

    sections = [augmentation_section(method, overrides) for method in methods]
    if len(methods) == 1 or not overrides:
        return sections
    known = set(augmentations.available())
    has = {
        name: {one.name for one in augmentations.describe(name).parameters}
        for name in methods
        if name in known
    }
    for key in [key for key in sections[0] if key != "name"]:
        without = [name for name in methods if key not in has.get(name, {key})]
        if len(without) == len(methods):
            continue
        if without:
            print(f"--set {key}: not for {', '.join(without)}")
        for section in sections:
            if section["name"] in without:
                del section[key]
    return sections


def _network_for(targets: str) -> dict[str, dict[str, Any]]:
    """The section of a network that can have these targets; what is drawn doesn't depend on it."""
    network = {"masks": "unet", "boxes": "small_fcos"}.get(targets)
    return {} if network is None else {"model": {"name": network}}


def _by_section(overrides: list[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the sections that `--set dataset.image_size=96 ...` names, and the other overrides."""
    from mixbench.experiments.sweep.load import parse_override

    sections: dict[str, dict[str, Any]] = {"dataset": {}, "training": {}}
    rest = []
    for text in overrides:
        section, dot, _ = text.partition("=")[0].strip().partition(".")
        if not dot or section not in sections:
            rest.append(text)
            continue
        key, value = parse_override(text, "dataset.image_size=96")
        if key == "dataset.name":
            raise UserError("--set dataset.name: give --dataset")
        sections[section][key.partition(".")[2]] = value
    return sections, rest


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

    expected = "a mapping with `staging` (and `transfer`), `phases` or `match_dose`"
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
            known = {"staging", "phases", "match_dose"} & set(content)
            if not known or set(sections) - {"staging", "transfer"}:
                raise UserError(f"{text}: expected {expected}, got {', '.join(map(str, content))}")
            by_name[Path(text).stem] = sections
        else:
            raise unknown("schedule", text, [*NAMED, "all"], "; or the name of a YAML file")
    return list(by_name.items())
