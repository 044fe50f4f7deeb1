"""`mixbench find-lr`: a learning rate for the baseline of a sweep, by a range test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixbench.experiments.cli.options import Device, DeviceOption, ScaleOption, SetOption
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.config.schema import RunConfig
    from mixbench.experiments.sweep.expand import Sweep
    from mixbench.experiments.training.range_test import RangeTest

_ROWS = 16
_WIDTH = 30
_FEWEST = 20
_KEY = "training.learning_rate"


def find_lr(
    name: Annotated[
        str, typer.Argument(metavar="YAML", help="The YAML file of a sweep, or a shipped sweep.")
    ],
    scale: ScaleOption = None,
    overrides: SetOption = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the YAML with this rate there; may be the same."),
    ] = None,
    steps: Annotated[int, typer.Option(min=_FEWEST, help="Training steps.")] = 100,
    device: DeviceOption = Device.auto,
) -> None:
    """Propose a learning rate: a range test on the sweep's baseline, with its data and network.

    Trains for some steps while the rate rises from far too small to far too large (Smith 2017), and
    proposes one below that from which on the loss rises again: a third of it where the schedule
    warms up, else a tenth. Nothing is written without --write.

    Example: mixbench find-lr my.yaml --write my.yaml
    """
    from mixbench.experiments.sweep.load import load

    wanted = load(name, overrides or [], None, scale)
    if write is not None:
        _check_writable(name, write, scale)
    config, others = baseline(wanted)
    seen, used = _seen(wanted, config, steps, device)
    print("\n".join(_lines(wanted.name, config, seen, used, others)))
    if seen.proposed is None:
        raise typer.Exit(1)
    if write is not None:
        from mixbench.experiments.store.files import atomic_write

        atomic_write(write, _rewritten(name, seen.proposed, scale).encode())
        print(f"wrote {write} with {_KEY}: {seen.proposed:g}")


def baseline(wanted: Sweep) -> tuple[RunConfig, int]:
    """Return a run of the first baseline, without mixing, and how many others are not tried."""
    from mixbench.experiments.manage.find_rate import without_mixing
    from mixbench.experiments.merge import matches

    rule = wanted.spec.get("baseline") or {"augmentation.name": "none"}
    runs: dict[str, RunConfig] = {}
    for run, (_, cell_key) in wanted.compared():
        if cell_key not in runs and matches(rule, run.model_dump(mode="json")):
            runs[cell_key] = run
    if not runs:
        return without_mixing(next(wanted.compared())[0]), 0
    first, *others = runs.values()
    differ = [one for one in others if _what_counts(one) != _what_counts(first)]
    return without_mixing(first), len(differ)


def _what_counts(run: RunConfig) -> list[Any]:
    """Return what decides which rate suits a run: not what mixes, how long, and the rate itself."""
    training = run.training.model_copy(update={"learning_rate": 1.0, "epochs": 1})
    return [run.dataset, run.model, run.transfer, training]


def _seen(wanted: Sweep, config: RunConfig, steps: int, device: Device) -> tuple[RangeTest, str]:
    from dataclasses import replace

    from mixbench.experiments.cli import prepare
    from mixbench.experiments.manage.find_rate import find_rate
    from mixbench.experiments.signals import interruptible
    from mixbench.slurm import local

    alone = replace(wanted, runs=(config,), keys=((config.run_key, config.cell_key),), tune={})
    prepare.with_data(alone, [], None)
    prepare.check_runs(alone)
    slot = local.slots(1, 1, device.value)[0]
    where = "cpu" if slot.gpu is None else "cuda"
    with interruptible():
        return find_rate(config, where, wanted.name, steps=steps, threads=slot.threads), where


def _lines(name: str, config: RunConfig, seen: RangeTest, device: str, others: int) -> list[str]:
    training = config.training
    first, last = seen.rates[0], seen.rates[-1]
    lines = [
        f"{name}: range test of the baseline without mixing, seed {config.seed}, {device}",
        f"{plural(len(seen.rates), 'step')} of {training.batch_size} images, "
        f"{training.base_optimiser}, rates from {first:.0e} to {last:.1e}",
    ]
    if others:
        lines.append(
            f"not tried: {plural(others, 'other baseline')} with other data, network or training; "
            "choose one with --set"
        )
    return [*lines, "", *_table(seen), "", *conclusion(seen, training.learning_rate)]


def conclusion(seen: RangeTest, given: float) -> list[str]:
    """Say which rate is proposed, by which rule, and whether it lies at an edge."""
    if seen.proposed is None:
        return [
            "no rate is proposed: the loss never fell by 5%, so nothing was learnt at any rate "
            "(labels that say nothing, frozen layers, or too few --steps)"
        ]
    of = "the largest rate tried" if seen.rises_from is None else "the rate from which it rises"
    at = seen.rates[-1] if seen.rises_from is None else seen.rises_from
    lines = [
        f"proposed: {_KEY}: {seen.proposed:g}",
        f"  1/{at / seen.proposed:.0f} of {at:.2g}, {of} (the loss over "
        "neighbouring steps; Smith 2017, arXiv:1506.01186)",
    ]
    if seen.at_edge:
        side = {"low": "smallest", "high": "largest"}[seen.at_edge]
        lines.append(
            f"  at the edge: the loss was lowest at the {side} rates tried, so better ones may lie "
            "beyond"
        )
    return [*lines, f"the sweep has {given:g}"]


def _table(seen: RangeTest) -> list[str]:
    count = len(seen.rates)
    shown = sorted({round(row * (count - 1) / (_ROWS - 1)) for row in range(_ROWS)})
    values = [value for value in seen.smoothed if math.isfinite(value)]
    low, high = min(values, default=0.0), max(seen.smoothed[0], min(values, default=0.0))
    rows = [f"  {'rate':>8}  {'loss':>7}"]
    for at in shown:
        value = seen.smoothed[at]
        share = (value - low) / (high - low) if high > low and math.isfinite(value) else 1.0
        bar = "█" * max(1, round(_WIDTH * min(1.0, share)))
        mark = _mark(seen, shown, at)
        rows.append(f"  {seen.rates[at]:8.1e}  {value:7.3f}  {bar}{mark}")
    return rows


def _mark(seen: RangeTest, shown: Sequence[int], at: int) -> str:
    """Mark the row that is nearest to the proposal, and that from which on the loss rises."""
    marks = {"proposed": seen.proposed, "rises from here": seen.rises_from}
    for words, rate in marks.items():
        if rate is not None:
            nearest = min(shown, key=lambda one: abs(math.log(seen.rates[one] / rate)))
            if nearest == at:
                return f"  {words}"
    return ""


def _check_writable(name: str, write: Path, scale: str | None) -> None:
    """Raise UserError, before minutes of work, where --write could not write."""
    if write.is_dir() or not write.absolute().parent.is_dir():
        raise UserError(f"--write: got {str(write)!r}, expected the name of a file in a folder")
    _rewritten(name, 0.123, scale)


def _rewritten(name: str, rate: float, scale: str | None) -> str:
    from mixbench.experiments.sweep import load, set_rate

    path = load.find(name)
    spec = load.read_spec(name)
    chosen = scale or next(iter(spec.get("scales") or ()), None)
    return set_rate.with_rate(path.read_text(encoding="utf-8"), rate, chosen)
