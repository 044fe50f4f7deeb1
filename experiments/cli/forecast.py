"""How long the missing runs of a sweep will take, for `mixbench plan`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixbench.experiments.store.choices import DEFAULT, TUNED, TUNING
from mixbench.experiments.text import duration, plural

if TYPE_CHECKING:
    from mixbench.experiments.cli.workplace import Workplace
    from mixbench.experiments.config.schema import RunConfig
    from mixbench.experiments.manage.estimate import Cost, Where
    from mixbench.slurm.profile import Profile


@dataclass(frozen=True)
class Missing:
    """A run to be trained. tune: its part in the tuning of a method, None for most."""

    config: RunConfig
    run_key: str
    cell_key: str
    tune: Mapping[str, Any] | None = None
    share: float = 1.0
    """Of its epochs, what it is trained for where poor settings are stopped early."""

    @property
    def part(self) -> str:
        """ "tuning", "tuned", "default", or "" for none."""
        return str(self.tune["part"]) if self.tune else ""

    @property
    def is_pending(self) -> bool:
        """Does it wait for the choice of its setting?"""
        return self.part == TUNED and "chosen" not in (self.tune or {})


@dataclass(frozen=True)
class Workers:
    """The workers that would do the missing runs.

    at_once: how many work at a time. cores: CPU cores of each. per_gpu: how many share a GPU.
    tasks: SLURM tasks, 0 on this machine.
    """

    where: Where
    text: str
    at_once: int
    cores: float
    per_gpu: int
    tasks: int = 0


def show(
    name: str,
    missing: Sequence[Missing],
    epochs: Mapping[str, float],
    costs: Mapping[str, Cost],
    workplace: Workplace,
    per_task: int,
) -> None:
    """Print how long the `missing` runs of the sweep `name` take, and where the figures come from.

    epochs: run_key -> epochs done, in parts. costs: kind -> cost, as this sweep has measured it.
    per_task: workers of a SLURM task.
    """
    devices = max(run.config.training.devices or 1 for run in missing)
    if workplace.profile is None:
        workers = _local_workers(workplace, len(missing))
    else:
        workers = _slurm_workers(workplace, workplace.profile, len(missing), per_task)
    priced = _with_costs(name, missing, costs, workers.where, timed=workplace.profile is None)
    seconds = _seconds_left(priced, epochs)
    wall_time = _wall_time(seconds, workers.at_once)
    print(f"{plural(len(missing), 'run')} to do on {workers.text}: {wall_time}")
    if seconds is not None:
        print(_device_hours(sum(length for _, length in seconds) / 3600, workers, devices))
        for line in _of_tuning(seconds, workers, devices):
            print(line)
    for line in _sources(priced):
        print(line)
    if workplace.profile is not None:
        longest = max(length for _, length in seconds) if seconds else None
        for line in _slurm_limits(workplace.profile, workers.tasks, longest):
            print(line)


def _local_workers(workplace: Workplace, missing: int) -> Workers:
    from mixbench.experiments.manage import estimate

    slots = workplace.slots[:missing]
    counts = Counter(slot.describe() for slot in slots)
    return Workers(
        where=estimate.here(slots[0].gpu is not None, slots[0].threads),
        text=", ".join(f"{count} x {text}" for text, count in counts.items()),
        at_once=len(slots),
        cores=slots[0].threads,
        per_gpu=workplace.per_gpu or 1,
    )


def _slurm_workers(workplace: Workplace, profile: Profile, missing: int, per_task: int) -> Workers:
    from mixbench.experiments.manage import estimate

    tasks = min(-(-missing // per_task), workplace.workers or profile.most_tasks)
    return Workers(
        where=estimate.Where(profile.gpu_count > 0, None, None),
        text=f"{plural(tasks, 'SLURM task')} of {plural(per_task, 'worker')}",
        at_once=min(tasks, profile.throttle or tasks) * per_task,
        # A worker has its share of the cores of its task.
        cores=(profile.cpus or 1) * profile.nodes / per_task,
        per_gpu=profile.workers_per_gpu,
        tasks=tasks,
    )


def _with_costs(
    name: str,
    missing: Sequence[Missing],
    measured: Mapping[str, Cost],
    where: Where,
    *,
    timed: bool,
) -> list[tuple[Missing, Cost | None]]:
    """Pair each run with its cost: measured, else of a run like it, else timed here."""
    from mixbench.experiments.manage import estimate, time_steps

    configs = {run.run_key: run.config.model_dump(mode="json") for run in missing}
    kinds = {run_key: estimate.kind(config) for run_key, config in configs.items()}
    costs = dict(measured)
    unknown = [run for run in missing if kinds[run.run_key] not in costs]
    if unknown:
        alike = [configs[run.run_key] for run in unknown]
        costs = {**estimate.alike(alike, name, where), **costs}
    if timed:
        # Not for a cluster: its devices are not those of this machine.
        costs |= time_steps.timed(
            [run.config for run in unknown if kinds[run.run_key] not in costs], where
        )
    return [(run, costs.get(kinds[run.run_key])) for run in missing]


def _seconds_left(
    priced: Sequence[tuple[Missing, Cost | None]], epochs: Mapping[str, float]
) -> list[tuple[Missing, float]] | None:
    """Pair each run with its seconds left, in the order in which workers claim them.

    None if a cost is unknown. Tuning runs come first; else all cells of a seed come before the
    next seed.
    """
    seeds_before: Counter[str] = Counter()
    ordered = []
    for run, cost in priced:
        if cost is None:
            return None
        most = run.config.training.epochs * run.share
        left = most - min(epochs.get(run.run_key, 0.0), most)
        rank = (run.part != TUNING, seeds_before[run.cell_key])
        ordered.append((rank, run, left * cost.epoch + cost.rest))
        seeds_before[run.cell_key] += 1
    return [(run, seconds) for _, run, seconds in sorted(ordered, key=lambda item: item[0])]


def _wall_time(seconds: Sequence[tuple[Missing, float]] | None, at_once: int) -> str:
    from mixbench.experiments.manage import estimate

    if seconds is None:
        return "how long is not known before an epoch was measured"
    lengths = [length for _, length in seconds]
    longest = f", the longest run {duration(max(lengths))}" if len(lengths) > 1 else ""
    wall = estimate.wall(lengths, at_once, _needed_before([run for run, _ in seconds]))
    return f"about {duration(wall)}{longest}"


def _needed_before(runs: Sequence[Missing]) -> dict[int, int]:
    """Map the index of a run to that of an earlier one that must be done before it."""
    from mixbench.experiments.store import dependencies

    cells = [
        dependencies.cell_of(run.config.model_dump(mode="json", include=set(dependencies.SECTIONS)))
        for run in runs
    ]
    last = {
        run.tune["of"]: index for index, run in enumerate(runs) if run.part == TUNING and run.tune
    }
    if not any(cells) and not last:
        return {}
    indices = {
        (run.cell_key, run.config.replicate, run.config.seed): index
        for index, run in enumerate(runs)
    }
    needed = {}
    for index, (run, cell) in enumerate(zip(runs, cells, strict=True)):
        other = indices.get((cell, run.config.replicate, run.config.seed)) if cell else None
        if run.is_pending:
            # The last of its tuning runs, as they are done in order.
            other = last.get(run.cell_key)
        if other is not None and other < index:
            needed[index] = other
    return needed


def _of_tuning(
    seconds: Sequence[tuple[Missing, float]], workers: Workers, devices: int
) -> list[str]:
    """Say how much of it is for tuning, and for the defaults beside it."""
    lines = []
    for part, what in ((TUNING, "tuning"), (DEFAULT, "the untuned settings")):
        lengths = [length for run, length in seconds if run.part == part]
        if lengths:
            hours = _device_hours(sum(lengths) / 3600, workers, devices).strip()
            lines.append(f"  of which {what}: {plural(len(lengths), 'run')}, {hours}")
    return lines


def _device_hours(worker_hours: float, workers: Workers, devices: int) -> str:
    if workers.where.on_gpu:
        shared = f", {workers.per_gpu} workers on a GPU" if workers.per_gpu > 1 else ""
        return f"  {worker_hours * devices / workers.per_gpu:,.2f} GPU-hours{shared}"
    return f"  {worker_hours * workers.cores:,.2f} CPU-hours"


def _sources(priced: Sequence[tuple[Missing, Cost | None]]) -> list[str]:
    """Say where the figures come from: a line per source, with how many runs it stands for."""
    counts = Counter(cost.source for _, cost in priced if cost is not None)
    unknown = sum(cost is None for _, cost in priced)
    lines = [f"  {plural(count, 'run')}: {source}" for source, count in counts.most_common()]
    if unknown:
        lines.append(
            f"  {plural(unknown, 'run')}: no epoch with this data, network and batch has "
            "been measured on such a device"
        )
    return lines


def _slurm_limits(profile: Profile, tasks: int, longest: float | None) -> list[str]:
    """Describe the arrays of tasks and the limits of the cluster and of the profile."""
    from mixbench.slurm import queue, sbatch, submit
    from mixbench.slurm.programs import Unavailable

    lines = []
    limits = {}
    source = "scontrol show config"
    try:
        limits = queue.limits()
    except Unavailable as error:
        source = "SLURM's default"
        lines.append(f"{_why_unavailable(str(error))}; SLURM's default limits are assumed")
    most = int(limits.get("MaxArraySize", queue.MAX_ARRAY_SIZE))
    sizes = submit.array_sizes(tasks, most)
    arrays = ", ".join(
        "a single job" if size is None else f"{count} x {size}" if count > 1 else str(size)
        for size, count in Counter(sizes).items()
    )
    lines.append(
        f"{plural(len(sizes), 'array')} of tasks: {arrays} (MaxArraySize {most}, from {source})"
    )
    if profile.throttle:
        lines.append(f"at most {profile.throttle} tasks at a time (throttle of {profile.name})")
    if "MaxJobCount" in limits:
        lines.append(f"the cluster holds {limits['MaxJobCount']} jobs at most (MaxJobCount)")
    limit = sbatch.seconds(profile.time)
    text = f"time limit of a task: {duration(limit)} (time of {profile.name})"
    if longest is not None and longest > limit:
        text += ", less than the longest run: it goes on from its checkpoint in the next task"
    lines.append(text)
    return lines


def _why_unavailable(error: str) -> str:
    if "not on the PATH" in error:
        return "SLURM is not on this machine"
    if "configuration source" in error:
        return "no SLURM cluster is set up on this machine"
    return f"SLURM can't be asked here ({error})"
