"""Checks and downloads of `sweep` and `evaluate` before any work begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from mixbench.experiments.config.schema import RunConfig
    from mixbench.experiments.store.run_folder import PlannedRun
    from mixbench.experiments.sweep.expand import Sweep
    from mixbench.slurm.measuring import Order
    from mixbench.slurm.profile import Profile


def with_data(
    sweep: Sweep, overrides: list[str], rename: str | None, *, may_fall_back: bool = True
) -> Sweep:
    """Get the data before any worker needs it; where that fails, return the sweep's fallback."""
    from mixbench.experiments.data import fetch
    from mixbench.experiments.sweep.load import load

    try:
        for name in dict.fromkeys(name for run in sweep.runs for name in _data_of(run)):
            fetch.ensure(name)
    except UserError as error:
        other = sweep.spec.get("fallback")
        # Don't replace damaged data silently.
        if not other or not may_fall_back or fetch.available_offline(name):
            raise
        print(f"{error}\n{sweep.name}: falling back to the sweep {other!r}", flush=True)
        return with_data(load(other, overrides, rename), overrides, rename, may_fall_back=False)
    return sweep


def _data_of(run: RunConfig) -> list[str]:
    """Return the names of all data sets of a run, that of its labelled images first."""
    from mixbench.experiments.config.streams import REST

    streams = run.streams.named().values() if run.streams else ()
    return [run.dataset.name, *(one.dataset for one in streams if one.dataset != REST)]


def check_runs(sweep: Sweep, taken_over: Collection[str] = ()) -> None:
    """Check what can only be known from the data or the network.

    taken_over: keys of runs that another sweep has finished, and that are not trained here.
    """
    for dataset in dict.fromkeys(run.dataset for run in sweep.runs):
        # Skip the check, and torch's import, far from the limits.
        size = dataset.train_size or 0
        validating = dataset.validation_size or size * dataset.validation_fraction
        is_small = size and min(size, validating) < 100
        # What domains lack is fetched now, before any worker needs it.
        always = ":" in dataset.name or dataset.left_out_classes or dataset.domains
        if always or is_small:
            from mixbench.experiments.data.load import check_sizes

            check_sizes(dataset)
    _check_packages(sweep, taken_over)
    _check_streams(sweep, taken_over)
    check_networks(sweep, taken_over)
    if any(run.transfer is not None or run.teacher is not None for run in sweep.runs):
        from mixbench.experiments.transfer import dry_check, load

        dry_check.check_freezing(sweep.runs)
        cell_keys = (cell_key for _, cell_key in sweep.keys)
        load.check_weights(
            _unfinished_runs(sweep, taken_over), dict(zip(cell_keys, sweep.runs, strict=True))
        )


def _check_packages(sweep: Sweep, taken_over: Collection[str]) -> None:
    """Raise UserError for a task whose metrics can't be measured here: not after its training."""
    from importlib.util import find_spec

    needed = {run.task_info.name: run.task_info for run in _unfinished_runs(sweep, taken_over)}
    for task in needed.values():
        for module, install in task.packages.items():
            if find_spec(module) is None:
                raise UserError(f"task: {task.name} needs {module} for its metrics; {install}")


def _check_streams(sweep: Sweep, taken_over: Collection[str]) -> None:
    """Raise UserError for images beside the labelled ones that can't be had or test."""
    from mixbench.experiments.config.streams import REST

    checked = set()
    for run in _unfinished_runs(sweep, taken_over):
        streams = run.streams.named().values() if run.streams else ()
        is_sure = all(one.dataset == REST and ":" not in run.dataset.name for one in streams)
        # What is left of a data set with a name was counted when the run was planned.
        if not is_sure and (key := _texts_of(run)) not in checked:
            import torch

            from mixbench.experiments.data.load import load_once
            from mixbench.experiments.data.streams import with_streams

            checked.add(key)
            dataset = load_once(run.dataset, "cpu", run.training.random_crops)
            with_streams(dataset, run, torch.device("cpu"))


def _texts_of(run: RunConfig) -> tuple[str, ...]:
    texts = run.section_texts()
    return texts["dataset"], texts["streams"]


def check_folders(sweep: Sweep, taken_over: Collection[str] = ()) -> None:
    """Raise UserError for an image folder that runs which are not done yet can't be trained on."""
    for dataset in dict.fromkeys(run.dataset for run in _unfinished_runs(sweep, taken_over)):
        if ":" in dataset.name:
            from mixbench.experiments.data.load import check_sizes

            check_sizes(dataset)


def check_networks(sweep: Sweep, taken_over: Collection[str] = ()) -> None:
    """Raise UserError for a network that can't take the images of a run that is not done yet.

    What finished runs have shown is not checked again, so that torch need not be imported.
    """
    from mixbench.experiments.config import datasets

    missing = list(_unfinished_runs(sweep, taken_over))
    to_do = set(map(id, missing))
    known = {_network_and_images(run) for run in sweep.runs if id(run) not in to_do}
    for run in {_network_and_images(run): run for run in missing}.values():
        if _network_and_images(run) not in known:
            from mixbench.experiments.models.dry_forward import check_size

            facts = datasets.info(run.dataset.name)
            size = run.dataset.image_size or facts.size
            classes = run.task_info.outputs or run.dataset.classes
            check_size(
                run.model,
                channels=facts.channels,
                classes=classes,
                size=size,
                is_dense=run.task_info.is_dense,
            )
    for run in missing:
        _check_asks(run)


def _check_asks(run: RunConfig) -> None:
    """Raise UserError for a method that asks its network for what it can't answer."""
    from mixbench.experiments.config import datasets
    from mixbench.experiments.staging.methods import methods_of

    for where, mix in methods_of(run.augmentation, run.phases):
        if mix.asks:
            from mixbench.experiments.models.dry_forward import why_not_asked

            facts = datasets.info(run.dataset.name)
            size = run.dataset.image_size or facts.size
            reason = why_not_asked(
                run.model, mix, channels=facts.channels, classes=run.dataset.classes, size=size
            )
            if reason is not None:
                raise UserError(f"{where}: {reason} (model {run.model.name})")


def _network_and_images(run: RunConfig) -> tuple[object, ...]:
    return run.model, run.dataset.name, run.dataset.image_size, run.task_info.is_dense


def _unfinished_runs(sweep: Sweep, taken_over: Collection[str]) -> Iterator[RunConfig]:
    """Yield the unfinished runs: weights that finished ones started from may be deleted."""
    from mixbench.experiments.store.run_folder import RunFolder
    from mixbench.experiments.store.sweep_folder import root

    runs = root() / sweep.name / "runs"
    for run, (run_key, _) in zip(sweep.runs, sweep.keys, strict=True):
        is_done = RunFolder(runs / run_key).state_on_file() == RunState.DONE
        if not is_done and run_key not in taken_over:
            yield run


def check_measuring_profile(profile: Profile) -> None:
    """Raise UserError unless tasks that measure finished runs can be had with the profile."""
    from mixbench.slurm import submit

    if profile.nodes > 1:
        raise UserError(
            f"nodes: got {profile.nodes}, expected 1 to measure finished runs, with the profile "
            f"{profile.name}"
        )
    submit.check_possible(profile)


def check_weights(runs: Sequence[PlannedRun]) -> None:
    """Raise UserError where a run has no usable weights, or no place for its measurements."""
    from mixbench.experiments.store import checkpoint, evaluations

    for run in runs:
        evaluations.folder_of(run.folder)
    absent = [run for run in runs if not checkpoint.exists(run.folder.path)]
    damaged = [run for run in runs if not checkpoint.usable(run.folder.path)]
    for without, problem in (
        (absent, "no saved weights of"),
        (damaged, "saved weights that are damaged or of another version of mixbench:"),
    ):
        if without:
            keys = ", ".join(run.run_key for run in without[:3])
            more = f" and {len(without) - 3} more" if len(without) > 3 else ""
            raise UserError(
                f"{problem} {keys}{more}; they can't be measured without being trained again"
            )


def with_data_to_measure(order: Order, runs: Sequence[PlannedRun], *, by_name: bool) -> Order:
    """Get the data that the measurements need; drop those whose data can't be had.

    by_name: the measurements were asked for by name, so one that can't be made is a UserError.
    """
    from mixbench.experiments.config import resolve
    from mixbench.experiments.evaluation import catalogue

    parsed = [resolve.parse(run.config) for run in runs]
    wanted = _of_tasks(order.wanted, {run.task_info.name for run in parsed}, by_name=by_name)
    order = order._replace(wanted=wanted)
    datasets = dict.fromkeys(run.dataset for run in parsed)
    problems = catalogue.prepare(order.wanted, datasets)
    for name, why in problems.items():
        if by_name:
            raise UserError(f"{name}: {why}")
        print(f"left out: {name}: {why}")
    wanted = {name: given for name, given in order.wanted.items() if name not in problems}
    catalogue.check_runs(wanted, runs)
    return order._replace(wanted=wanted)


def _of_tasks(
    wanted: dict[str, dict[str, Any]], tasks: Collection[str], *, by_name: bool
) -> dict[str, dict[str, Any]]:
    """Return the measurements that can be taken of runs of all these tasks.

    Raises UserError for one that was asked for by name and can't, and where none can.
    """
    from mixbench.experiments.design.tasks import CLASSIFICATION
    from mixbench.experiments.evaluation.catalogue import MEASUREMENTS

    able = [name for name, one in MEASUREMENTS.items() if set(tasks) <= set(one.tasks)]
    unfit = [name for name in wanted if name not in able]
    if unfit and (by_name or len(unfit) == len(wanted)):
        known = f"; what can be measured of them: {', '.join(able)}" if able else ""
        raise UserError(
            f"evaluate: {unfit[0] if by_name else 'its measurements'} "
            f"{'is' if by_name else 'are'} for {CLASSIFICATION}, and the runs have task "
            f"{', '.join(sorted(set(tasks) - {CLASSIFICATION}))}{known}"
        )
    if unfit:
        others = ", ".join(sorted(set(tasks) - {CLASSIFICATION}))
        print(f"left out, as runs have task {others}: {', '.join(unfit)}")
    return {name: given for name, given in wanted.items() if name in able}
