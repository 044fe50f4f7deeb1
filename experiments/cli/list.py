"""What `mixbench list` and `mixbench sweep --dry-run` print."""

from __future__ import annotations

import math
from typing import Any

from mixbench import augmentations
from mixbench.experiments.config import datasets
from mixbench.experiments.config.method_text import parameter_text
from mixbench.experiments.config.models import MODELS
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.catalogue import MEASUREMENTS
from mixbench.experiments.manage import render
from mixbench.experiments.store.dependencies import cell_of
from mixbench.experiments.store.states import RunState
from mixbench.experiments.sweep import expand, load, scales
from mixbench.experiments.text import plural


def show(what: str = "all") -> None:
    """Print the augmentations, data sets, models, sweeps and measurements, or one of these."""
    parts = {
        "augmentations": _augmentations,
        "datasets": _datasets,
        "models": _models,
        "sweeps": _sweeps,
        "measurements": _measurements,
    }
    chosen = parts if what == "all" else {what: parts[what]}
    print("\n\n".join("\n".join([title, *part()]) for title, part in chosen.items()))


def _augmentations() -> list[str]:
    lines = []
    for name in augmentations.available():
        method = augmentations.describe(name)
        lines.append(f"  {name:15} {method.summary}")
        if method.paper:
            lines.append(f"  {'':15} {method.paper}")
        if method.source:
            lines.append(f"  {'':15} from {method.source}")
        lines += [
            f"  {'':15} {parameter.name}={parameter_text(parameter.default)}: {parameter.doc} "
            f"[{parameter.allowed}]"
            for parameter in method.parameters
        ]
    return lines + [f"  {plugin.problem}" for plugin in augmentations.plugins() if plugin.problem]


def _datasets() -> list[str]:
    lines = []
    for name in datasets.names():
        facts = datasets.info(name)
        lines.append(
            f"  {name:15} {facts.title}: {facts.train:,} + {facts.test:,} images of "
            f"{facts.size} x {facts.size}, {facts.classes} classes ({facts.source})"
        )
    lines.append(f"  {'imagefolder:/p':15} your images: a folder per class, or train/ and test/")
    return lines


def _models() -> list[str]:
    lines = [f"  {name:15} {model.summary}" for name, model in MODELS.items()]
    lines.append(
        f"  {'timm/NAME':15} any network of timm, such as timm/resnet18 (small_stem: true)"
    )
    return lines


def _sweeps() -> list[str]:
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
    """What `mixbench evaluate` measures, and what `--set` changes of it."""
    lines = []
    for name, entry in MEASUREMENTS.items():
        lines.append(f"  {name:15} {entry.summary}")
        usual = catalogue.parse(name, {}).model_dump(mode="json")
        lines += [f"  {'':15} {name}.{key}={_setting(value)}" for key, value in usual.items()]
    return lines


def _setting(value: Any) -> str:
    """A setting as `--set` takes it; shades of 255 as a fraction."""
    if isinstance(value, list):
        return f"[{', '.join(map(_setting, value))}]"
    if isinstance(value, float):
        shades = round(value * 255)
        is_shades = len(repr(value)) > 8 and math.isclose(value, shades / 255)
        return f"{shades}/255" if is_shades else f"{value:.4g}"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def show_plan(wanted: expand.Sweep, states: dict[str, RunState], labels: dict[str, str]) -> None:
    """Print the cells of a sweep with the states of their runs. labels: cell_key -> name."""
    from rich.table import Table

    cells: dict[str, list[RunState]] = {}
    for run in wanted.runs:
        cells.setdefault(run.cell_key, []).append(states.get(run.run_key, RunState.WAITING))
    shown = [RunState.DONE, RunState.FAILED, RunState.RUNNING]
    if RunState.STALE in states.values():
        shown.append(RunState.STALE)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("cell", no_wrap=True)
    table.add_column("configuration", min_width=12)
    for title in ("runs", *shown):
        table.add_column(title, no_wrap=True, justify="right")
    for key, found in cells.items():
        counts = [len(found), *(found.count(state) for state in shown)]
        only = " (pretraining only)" if key in wanted.pretraining else ""
        table.add_row(key[:8], f"{labels[key]}{only}", *map(str, counts))
    print(render.printed(table), end="")
    print(f"{wanted.name}: {len(cells)} cells, {len(wanted.runs)} runs{_needing(wanted)}")


def _needing(wanted: expand.Sweep) -> str:
    """How many runs begin when which others are done."""
    cells = [cell_of(run.model_dump(mode="json", include={"transfer"})) for run in wanted.runs]
    needing = [cell for cell in cells if cell is not None]
    if not needing:
        return ""
    needed = sum(key in set(needing) for _, key in wanted.keys)
    verb = "starts" if len(needing) == 1 else "start"
    return f"; {plural(len(needing), 'run')} {verb} from the weights of {needed} others"
