"""`mixbench list`: augmentations, data sets, models, tasks, sweeps, measurements."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.config.datasets import DatasetInfo
    from mixbench.experiments.evaluation.declaration import Measurement


class Listed(StrEnum):
    """What `mixbench list` can show."""

    all = "all"
    augmentations = "augmentations"
    datasets = "datasets"
    models = "models"
    tasks = "tasks"
    sweeps = "sweeps"
    measurements = "measurements"


def list_(what: Annotated[Listed, typer.Argument(help="What to list.")] = Listed.all) -> None:
    """List augmentations with parameters, data sets, models, tasks, sweeps, measurements.

    Example: mixbench list augmentations
    """
    sections = {
        Listed.augmentations: _augmentations,
        Listed.datasets: _datasets,
        Listed.models: _models,
        Listed.tasks: _tasks,
        Listed.sweeps: _sweeps,
        Listed.measurements: _measurements,
    }
    shown = sections if what is Listed.all else {what: sections[what]}
    print("\n\n".join("\n".join([title.value, *lines()]) for title, lines in shown.items()))


def _augmentations() -> list[str]:
    from mixbench import augmentations
    from mixbench.experiments.config.method_text import parameter_text, passes_text

    lines = []
    for name in augmentations.available():
        method = augmentations.describe(name)
        lines.append(f"  {name:15} {method.summary}")
        if method.paper:
            lines.append(f"  {'':15} {method.paper}")
        if method.passes:
            lines.append(f"  {'':15} costs {passes_text(method.passes)}")
        if method.source:
            lines.append(f"  {'':15} from {method.source}")
        lines += [
            f"  {'':15} {parameter.name}={parameter_text(parameter.default)}: {parameter.doc} "
            f"[{parameter.allowed}]"
            for parameter in method.parameters
        ]
    return lines + [f"  {plugin.problem}" for plugin in augmentations.plugins() if plugin.problem]


def _datasets() -> list[str]:
    from mixbench.experiments.config import datasets

    lines = []
    for name in datasets.names():
        facts = datasets.info(name)
        height, width = facts.sides
        lines.append(
            f"  {name:15} {facts.title}: {facts.train:,} + {facts.test:,} images of "
            f"{height} x {width}, {_targets_text(facts)} ({facts.source})"
        )
    from mixbench.experiments.config import own_data

    own = own_data.entry_points()
    lines += [f"  {name:15} your own: {place}" for name, place in own.items()]
    lines.append(f"  {'MODULE:FUNCTION':15} your own, such as mypackage.data:load")
    lines.append(f"  {'imagefolder:/p':15} your images: a folder per class, or train/ and test/")
    lines.append(f"  {'maskfolder:/p':15} your images with masks of classes, as in Pascal VOC")
    lines.append(f"  {'boxfolder:/p':15} your images with boxes, in COCO or YOLO files")
    lines.append(f"  {'csv:/p.csv':15} your images in a table: path,label and maybe split,boxes")
    lines.append(f"  {'parquet:/p':15} your images in parquet files of Hugging Face's datasets")
    lines.append(f"  {'webdataset:/p':15} your images in shards of tar: KEY.jpg and KEY.cls")
    lines.append(f"  {'pairs:/p.csv':15} your images with texts in a table: image,text and split")
    lines.append(f"  {'audiofolder:/p':15} your clips: a folder per class, ESC-50, Speech Commands")
    return lines


def _targets_text(facts: DatasetInfo) -> str:
    """Return how many classes or numbers there are, and which targets beside the usual ones."""
    if facts.second:
        return f"each with its {facts.second}"
    what = "number to predict" if facts.targets[0] == "regression" else "class"
    several = "numbers to predict" if what != "class" else "classes"
    text = plural(facts.classes, what, several)
    is_usual = facts.targets == ("labels",)
    return text if is_usual else f"{text}; targets: {', '.join(facts.targets)}"


def _tasks() -> list[str]:
    from mixbench.experiments.design import tasks

    lines = []
    for name in tasks.names():
        task = tasks.info(name)
        lines.append(f"  {name:15} {task.summary} (dataset.targets: {task.targets})")
        lead, *others = [one for one in task.metrics if one.better]
        more = f"; also {', '.join(one.title for one in others)}" if others else ""
        lines.append(f"  {'':15} compared by {lead.title} ({lead.key}){more}")
    return lines


def _models() -> list[str]:
    from mixbench.experiments.config.models import our_networks

    lines = [f"  {name:15} {model.summary}" for name, model in our_networks().items()]
    from mixbench.experiments.config import own_code

    own = own_code.entry_points(own_code.NETWORKS)
    lines += [f"  {name:15} your own: {place}" for name, place in own.items()]
    lines.append(f"  {'MODULE:FUNCTION':15} your own, such as mypackage.nets:build")
    lines.append(
        f"  {'timm/NAME':15} any network of timm, such as timm/resnet18 (small_stem: true)"
    )
    return lines


def _sweeps() -> list[str]:
    from mixbench.experiments.sweep import expand, load, scales

    lines = []
    for name in load.shipped():
        spec = load.read_spec(name)
        sizes = []
        for scale in scales.names(spec) or (None,):
            cells, runs = expand.size(scales.select(spec, scale))
            option = f"--scale {scale}: " if scale else ""
            sizes.append(f"{option}{plural(cells, 'cell')}, {plural(runs, 'run')}")
        text = " ".join(str(spec.get("description") or "").split())
        lines.append(f"  {name:15} {text} ({'; '.join(sizes)})")
    return lines


def _measurements() -> list[str]:
    """List what `mixbench evaluate` measures, with the settings that `--set` changes."""
    from mixbench.experiments.evaluation import catalogue

    lines = [
        "  seconds are CPU time for a network of the sweep demo (24k parameters, 28 x 28 pixels)"
    ]
    for name, entry in catalogue.MEASUREMENTS.items():
        lines.append(f"  {name:15} {entry.summary}{_cost_text(entry)}")
        defaults = catalogue.parse(name, {}).model_dump(mode="json", context={"every": True})
        lines += [
            f"  {'':15} {name}.{key}={_setting_text(value)}" for key, value in defaults.items()
        ]
    return lines


def _cost_text(entry: Measurement) -> str:
    if entry.seconds is None:
        return ""
    by_name = "; only by name" if entry.is_by_name else ""
    return f" ({entry.seconds:.2g} s{by_name})"


def _setting_text(value: Any) -> str:
    """Write a setting as `--set` takes it; shades of 255 as a fraction."""
    if isinstance(value, list):
        return f"[{', '.join(map(_setting_text, value))}]"
    if isinstance(value, float):
        shades = round(value * 255)
        is_shades = len(repr(value)) > 8 and math.isclose(value, shades / 255)
        return f"{shades}/255" if is_shades else f"{value:.4g}"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
