"""`mixbench plan`: what a sweep would do, what of it is done, and what the rest will cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import (
    Cluster,
    Device,
    DeviceOption,
    NameOption,
    PerGpuOption,
    ProfileOption,
    ScaleOption,
    SetOption,
    WorkersOption,
    check_cluster,
)
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import duration, plural

if TYPE_CHECKING:
    from mixbench.experiments.config.schema import RunConfig
    from mixbench.experiments.manage.estimate import Cost, Where
    from mixbench.experiments.sweep.expand import Sweep
    from mixbench.slurm.local import Slot
    from mixbench.slurm.profile import Profile


def plan(
    name: Annotated[
        str, typer.Argument(metavar="SWEEP", help="A shipped sweep, a YAML, or one that was begun.")
    ],
    scale: ScaleOption = None,
    overrides: SetOption = None,
    rename: NameOption = None,
    cluster: Annotated[Cluster, typer.Option(help="Where workers would start.")] = Cluster.local,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    per_gpu: PerGpuOption = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Show the cells and runs of a sweep, what is done, and the hours that the rest will take.

    Hours come from epochs that were measured, where there are any. Nothing is written or started.

    Example: mixbench plan demo --workers 4
    """
    from mixbench.experiments.cli import finding
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    wanted = finding.wanted(name, overrides or [], rename, scale)
    check_cluster(cluster, profile, workers, per_gpu, device)
    slots: list[Slot] = []
    chosen = None
    if cluster is Cluster.slurm:
        from mixbench.slurm import profile as profiles

        chosen = profiles.load(profile or "")
    else:
        from mixbench.slurm import local

        devices = max(run.training.devices or 1 for run in wanted.runs)
        slots = local.slots(
            workers, len(wanted.runs), device.value, per_gpu=per_gpu or 1, devices=devices
        )
    if (root() / wanted.name / "sweep.json").exists():
        keys = {run_key for run_key, _ in wanted.keys}
        SweepFolder.open(wanted.name).check_same(keys, wanted.spec)
    show(wanted, slots, chosen, workers=workers, per_gpu=per_gpu)


def show(
    wanted: Sweep,
    slots: Sequence[Slot],
    profile: Profile | None = None,
    *,
    workers: int | None = None,
    per_gpu: int | None = None,
) -> None:
    """Print the plan of a sweep for these local slots, or for SLURM tasks of this profile."""
    from mixbench.analysis.tables.labels import cell_labels
    from mixbench.experiments.cli import list as listing
    from mixbench.experiments.manage import estimate
    from mixbench.experiments.manage.status import Observer
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    per_task = 0
    if profile is not None:
        if per_gpu is not None:
            profile = profile.with_workers_per_gpu(per_gpu)
        per_task = profile.workers_for(max(run.training.devices or 1 for run in wanted.runs))
    states: dict[str, RunState] = {}
    epochs: dict[str, float] = {}
    costs: dict[str, Cost] = {}
    if (root() / wanted.name / "sweep.json").exists():
        folder = SweepFolder.open(wanted.name)
        now = Observer(folder).snapshot()
        states = {run.run_key: run.state for run in now.runs}
        epochs = {run.run_key: run.epoch for run in now.runs}
        costs = estimate.measured(folder, epochs)
    configs = {run.run_key: run.model_dump(mode="json") for run in wanted.runs}
    cells = {run.cell_key: configs[run.run_key] for run in wanted.runs}
    listing.show_plan(wanted, states, cell_labels(cells))
    missing = [run for run in wanted.runs if states.get(run.run_key) != RunState.DONE]
    if not missing:
        print("nothing is missing")
        return
    if profile is None:
        slots = slots[: len(missing)]
        where = estimate.here(slots[0].gpu is not None, slots[0].threads)
        places = Counter(slot.describe() for slot in slots)
        on = ", ".join(f"{count} x {text}" for text, count in places.items())
        at_once = len(slots)
    else:
        tasks = min(-(-len(missing) // per_task), workers or profile.most_tasks)
        where = estimate.Where(profile.gpu_count > 0, None, None)
        on = f"{plural(tasks, 'SLURM task')} of {plural(per_task, 'worker')}"
        at_once = min(tasks, profile.throttle or tasks) * per_task
    kinds = {run.run_key: estimate.kind(configs[run.run_key]) for run in missing}
    lacking = [run for run in missing if kinds[run.run_key] not in costs]
    if lacking:
        alike = [configs[run.run_key] for run in lacking]
        costs = {**estimate.alike(alike, wanted.name, where), **costs}
    if profile is None:
        # Nothing that is timed here says anything about a cluster.
        costs |= estimate.timed([run for run in lacking if kinds[run.run_key] not in costs], where)
    priced = [(run, costs.get(kinds[run.run_key])) for run in missing]
    lengths = _seconds(priced, epochs)
    seconds = None if lengths is None else [length for _, length in lengths]
    length = _length(lengths, at_once)
    print(f"{plural(len(missing), 'run')} to do on {on}: {length}")
    if seconds is not None:
        share = (profile.workers_per_gpu if profile else per_gpu) or 1
        # A worker of a task has its share of the task's cores.
        given = (profile.cpus or 1) * profile.nodes / per_task if profile else slots[0].threads
        print(_hours(missing, seconds, where, share, given))
    for line in _sources(priced):
        print(line)
    if profile is not None:
        for line in _slurm(profile, tasks, max(seconds) if seconds else None):
            print(line)


def _seconds(
    priced: Sequence[tuple[RunConfig, Cost | None]], epochs: Mapping[str, float]
) -> list[tuple[RunConfig, float]] | None:
    """What is left of each run, in the order in which workers take them; None if not known of all.

    All cells of a seed come before the next seed.
    """
    place: Counter[str] = Counter()
    found = []
    for run, cost in priced:
        if cost is None:
            return None
        left = run.training.epochs - min(epochs.get(run.run_key, 0.0), run.training.epochs)
        cell = run.cell_key
        found.append((place[cell], run, left * cost.epoch + cost.rest))
        place[cell] += 1
    return [(run, seconds) for _, run, seconds in sorted(found, key=lambda item: item[0])]


def _length(lengths: Sequence[tuple[RunConfig, float]] | None, at_once: int) -> str:
    from mixbench.experiments.manage import estimate

    if lengths is None:
        return "how long is not known before an epoch was measured"
    seconds = [length for _, length in lengths]
    longest = f", the longest run {duration(max(seconds))}" if len(seconds) > 1 else ""
    wall = estimate.wall(seconds, at_once, _needed([run for run, _ in lengths]))
    return f"about {duration(wall)}{longest}"


def _needed(runs: Sequence[RunConfig]) -> dict[int, int]:
    """The place of a run -> that of the run that must be done before it, where that comes first."""
    from mixbench.experiments.store import dependencies

    cells = [
        dependencies.cell_of(run.model_dump(mode="json", include={"transfer"})) for run in runs
    ]
    if not any(cells):
        return {}
    places = {(run.cell_key, run.seed): place for place, run in enumerate(runs)}
    found = {}
    for place, (run, cell) in enumerate(zip(runs, cells, strict=True)):
        other = None if cell is None else places.get((cell, run.seed))
        if other is not None and other < place:
            found[place] = other
    return found


def _hours(
    missing: Sequence[RunConfig],
    seconds: Sequence[float],
    where: Where,
    share: int,
    cores: float,
) -> str:
    devices = max(run.training.devices or 1 for run in missing)
    total = sum(seconds) / 3600
    if where.on_gpu:
        shared = f", {share} workers on a GPU" if share > 1 else ""
        return f"  {total * devices / share:,.2f} GPU-hours{shared}"
    return f"  {total * cores:,.2f} CPU-hours"


def _sources(priced: Sequence[tuple[RunConfig, Cost | None]]) -> list[str]:
    """Where the figures come from: a line per source, with how many runs it stands for."""

    counts = Counter(cost.source for _, cost in priced if cost is not None)
    unknown = sum(cost is None for _, cost in priced)
    lines = [f"  {plural(count, 'run')}: {source}" for source, count in counts.most_common()]
    if unknown:
        lines.append(
            f"  {plural(unknown, 'run')}: no epoch with this data, network and batch has "
            "been measured on such a device"
        )
    return lines


def _slurm(profile: Profile, tasks: int, longest: float | None) -> list[str]:
    """Arrays, limits, and whether the cluster would take them."""
    from mixbench.slurm import profile as profiles
    from mixbench.slurm import queue, submit

    lines = []
    known = True
    try:
        limits = queue.limits()
    except queue.Unavailable as error:
        known = False
        limits = {}
        lines.append(f"{_why_not(str(error))}; SLURM's default limits are assumed")
    most = int(limits.get("MaxArraySize", queue.MAX_ARRAY_SIZE))
    sizes = submit.chunks(tasks, most)
    arrays = ", ".join(
        "a single job" if size is None else f"{count} x {size}" if count > 1 else str(size)
        for size, count in Counter(sizes).items()
    )
    source = "scontrol show config" if known else "SLURM's default"
    lines.append(
        f"{plural(len(sizes), 'array')} of tasks: {arrays} (MaxArraySize {most}, from {source})"
    )
    if profile.throttle:
        lines.append(f"at most {profile.throttle} tasks at a time (throttle of {profile.name})")
    if "MaxJobCount" in limits:
        lines.append(f"the cluster holds {limits['MaxJobCount']} jobs at most (MaxJobCount)")
    limit = profiles.seconds(profile.time)
    text = f"time limit of a task: {duration(limit)} (time of {profile.name})"
    if longest is not None and longest > limit:
        text += ", less than the longest run: it goes on from its checkpoint in the next task"
    lines.append(text)
    return lines


def _why_not(said: str) -> str:
    if "not on the PATH" in said:
        return "SLURM is not on this machine"
    if "configuration source" in said:
        return "no SLURM cluster is set up on this machine"
    return f"SLURM can't be asked here ({said})"
