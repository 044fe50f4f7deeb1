"""`mixbench try`: from a folder of images to an answer, within a budget of time."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixbench.experiments.cli.options import Cluster, Device, DeviceOption, WorkersOption
from mixbench.experiments.cli.workplace import WorkplaceOptions
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import duration, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mixbench.experiments.advise.folder import Start
    from mixbench.experiments.advise.record import Record
    from mixbench.experiments.data.inspection.inspect import Inspection
    from mixbench.slurm.local import Slot

_SHARE_OF_RATE = 0.1
"""How much of the budget the range test may take."""
_USUAL_RATES = {"adamw": 0.001, "sgd": 0.05}
"""Where the range test shows nothing."""


def try_folder(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder of images.")],
    minutes: Annotated[float, typer.Option(help="How long it may take, all in all.")] = 30.0,
    network: Annotated[
        str | None,
        typer.Option(
            help="small_cnn, resnet20, timm/NAME, or efficientnet_lite0 with its packaged weights; "
            "default: one that suits the images."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the sweep; default: try_FOLDER.")] = None,
    workers: WorkersOption = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Say whether mixing helps on a folder of images, which method, how sure, and what it costs.

    Inspects the folder, finds a learning rate, times some steps, and spends the budget on a sweep:
    settings are tuned where there is time, and compared on replicates. Ctrl-C ends it early with
    what is known; the same command goes on, with more --minutes for longer.

    Example: mixbench try photos/leaves --minutes 30
    """
    if not 0 < minutes <= 60 * 24 * 30:
        raise UserError(f"--minutes: got {minutes:g}, expected more than 0 and at most 43200")
    from mixbench.experiments.advise import folder as folders
    from mixbench.experiments.cli import try_rounds
    from mixbench.experiments.data.folder_listing import scan
    from mixbench.experiments.data.inspection.inspect import inspect
    from mixbench.experiments.sweep import expand

    workplace = WorkplaceOptions(Cluster.local, None, workers, None, device).resolve(10_000)
    wanted = expand.checked_name(name) if name else ""
    folders.check_classes(scan(folder))
    seen = inspect(folder)
    folders.check_sizes(seen)
    wanted = wanted or _name(seen.listing.root.name)
    record, start = _record(wanted, seen, network, on_gpu=workplace.slots[0].gpu is not None)
    trial = try_rounds.Trial(wanted, replace(record, minutes=minutes), 60 * minutes)
    print(f"{plural(sum(seen.splits.values()), 'image')} of {len(seen.classes)} classes; ", end="")
    print(f"{seen.splits['train']} to train, {seen.splits['test']} to test on")
    for note in record.notes:
        print(note)
    if record.plan is None:
        if record.costs is None:
            _measure(trial, seen, start, workplace.slots)
        _plan(trial, start, len(workplace.slots))
    if trial.left < 0:
        print(f"the {minutes:g} minutes are spent; more --minutes go on")
    raise typer.Exit(try_rounds.run(trial, workplace.slots))


def _name(folder: str) -> str:
    return "try_" + (re.sub(r"[^A-Za-z0-9._-]+", "_", folder).strip("._-") or "folder")[:80]


def _record(
    name: str, seen: Inspection, network: str | None, *, on_gpu: bool
) -> tuple[Record, Start]:
    """Return the record of the trial, a new one where there is none of these images."""
    from mixbench.experiments.advise import folder as folders
    from mixbench.experiments.advise import record as records
    from mixbench.experiments.config import image_folder
    from mixbench.experiments.config.datasets import FOLDER

    path = str(seen.listing.root.resolve())
    images = image_folder.digest(path)
    known = records.load(name)
    if known is not None and known.images != images and known.folder != path:
        raise UserError(
            f"--name: {name} is a trial of {known.folder}; give this one another name with --name"
        )
    start = folders.start_of(seen, f"{FOLDER}:{path}", network, on_gpu=on_gpu)
    fixed: dict[str, Any] = dict(start.fixed)
    if known is not None and known.images == images and known.network == (network or ""):
        if known.fixed == fixed:
            return known, start
    if known is not None:
        print("the images, the network or mixbench changed since: the trial begins anew")
    return records.Record(path, images, network or "", fixed, start.notes), start


def _measure(trial: Any, seen: Inspection, start: Start, slots: Sequence[Slot]) -> None:
    """Find a learning rate, and what an epoch costs."""
    from mixbench.experiments.advise.budget import Costs
    from mixbench.experiments.config import resolve
    from mixbench.experiments.manage.find_rate import find_rate

    record = trial.record
    config = resolve.parse({**start.fixed, "seed": 0})
    began = time.time()
    import torch  # noqa: F401, to know how long workers take until they begin

    imported = time.time() - began + trial.imports
    where = "cpu" if slots[0].gpu is None else "cuda"
    test = find_rate(
        config,
        where,
        trial.name,
        seconds=_SHARE_OF_RATE * trial.seconds,
        threads=slots[0].threads,
    )
    training = config.training
    rate = test.proposed or _USUAL_RATES[training.base_optimiser]
    how = "by a range test" if test.proposed else "the usual one: at no rate was anything learnt"
    edge = f", at the {test.at_edge} edge of what was tried" if test.at_edge else ""
    print(f"learning rate: {rate:g} ({how}{edge}; {plural(len(test.rates), 'step')})")
    steps = max(1, seen.splits["train"] // training.batch_size)
    forward = test.step_seconds / training.batch_size / 3
    hidden = config.evaluation.occlusion
    occluded = (hidden.images or 0) * (1 + 2 * len(hidden.shapes) * len(hidden.fractions))
    measured = seen.splits["train"] + seen.splits["test"] + occluded
    costs = Costs(
        epoch=steps * test.step_seconds + seen.splits["validation"] * forward,
        rest=measured * forward + 0.5,
        workers=len(slots),
        startup=3 * imported + trial.closing,
    )
    trial.update(replace(record, rate=rate, rate_edge=test.at_edge, costs=costs))


def _plan(trial: Any, start: Start, workers: int) -> None:
    """Plan what the budget buys; UserError where it buys no comparison."""
    from mixbench.experiments.advise import budget

    costs = trial.record.costs
    try:
        plan = budget.plan(
            trial.left,
            costs,
            start.usual,
            start.fewest,
            tunes="folds" not in start.fixed["dataset"],
        )
    except budget.TooShort as error:
        needed = (error.needed + trial.spent) / 60
        raise UserError(
            f"--minutes: got {trial.seconds / 60:g}, but one run of {start.fewest} epochs takes "
            f"about {duration(error.run)} here, and the smallest comparison has "
            f"{budget.FEWEST_RUNS} on {plural(workers, 'worker')}; expected at least {needed:.1f}"
        ) from None
    trial.update(replace(trial.record, plan=plan))
    tuned = f", settings chosen on {plural(plan.tuning_replicates, 'replicate')} of their own"
    text = (
        f"plan: no mixing, {', '.join(plan.methods)}; {plan.epochs} epochs, about "
        f"{duration(costs.run(plan.epochs))} a run on one of {plural(workers, 'worker')}; about "
        f"{plural(plan.replicates, 'replicate')}{tuned if plan.tuning_replicates else ''}"
    )
    print(text)
    trial.write_nothing_known(text)
