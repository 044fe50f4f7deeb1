"""The sweep of a trial, round by round until the budget is spent, and its answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mixbench.experiments.advise import record as records
from mixbench.experiments.advise import spec as specs
from mixbench.experiments.advise.budget import TrialPlan, more_replicates
from mixbench.experiments.advise.record import Record
from mixbench.experiments.cli import growing, local_run, names, prepare, reuse
from mixbench.experiments.cli.sweep import start
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import duration, plural

if TYPE_CHECKING:
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep
    from mixbench.slurm.local import Slot

_FIRST_SHARE = 0.5
"""Of the planned replicates, those of the first round; how many follow, its times say."""
_TUNING_UNTIL = 0.6
"""Where no setting is chosen after this share of the budget, the trial goes on without tuning."""
_PAGE_SHARE = 0.08
"""A page that takes a larger share of the budget is written at the end alone."""
_SAVE_SECONDS = 5.0
_QUIET_SECONDS, _QUIET_TIMES = 60.0, 15.0
"""Within a round, what is known is written again after so many seconds at the soonest, and after
so many times what writing takes."""
_FAREWELL = 3.0
"""Seconds from the deadline until workers have saved and ended."""


class Trial:
    """A trial as it runs: its record, and the budget.

    seconds: the budget of all calls together. closing: what report and answer will take.
    """

    def __init__(self, name: str, record: Record, seconds: float) -> None:
        self.name, self.record, self.seconds = name, record, seconds
        self.imports = max(0.5, time.time() - growing.began())
        """Seconds until this command had its libraries; a worker takes about as long."""
        self.closing = min(4 * self.imports, 0.2 * seconds)
        self._before = record.spent
        self._saved = 0.0
        self.written = time.monotonic()
        """When what is known was last written."""

    @property
    def spent(self) -> float:
        """Seconds of the budget that are gone."""
        return self._before + time.time() - growing.began()

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.seconds - self.spent

    @property
    def plan(self) -> TrialPlan:
        """What is tried."""
        if self.record.plan is None:
            raise ValueError("not planned yet")
        return self.record.plan

    def update(self, record: Record) -> None:
        """Remember what is known now."""
        self.record = replace(record, spent=self.spent)
        records.save(self.name, self.record)
        self._saved = time.monotonic()

    def tick(self) -> None:
        """Remember every few seconds how much of the budget is gone."""
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.update(self.record)

    def sweep(self, replicates: int) -> Sweep:
        """Write the YAML with so many replicates, and return its sweep."""
        from mixbench.experiments.store.files import atomic_write
        from mixbench.experiments.sweep.load import load

        rate = self.record.rate or 0.0
        spec = specs.spec_of(self.name, self.record.fixed, rate, self.plan, replicates)
        note = f"Written by `mixbench try {self.record.folder}`.\n" + "\n".join(self.record.notes)
        path = self.yaml_path
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, specs.yaml_of(spec, note))
        return load(str(path))

    def write_nothing_known(self, plan: str) -> None:
        """Write an answer for whoever looks before there is a result."""
        from mixbench.experiments.store.files import atomic_write

        lines = [
            "Can't tell yet; until then stay without mixing.",
            "",
            "no run is done yet",
            *self.record.notes,
            plan,
        ]
        atomic_write(self.answer_path, "\n".join(lines) + "\n")

    @property
    def yaml_path(self) -> Path:
        """Where the YAML of the sweep is."""
        return records.folder_of(self.name) / f"{self.name}.yaml"

    @property
    def answer_path(self) -> Path:
        """Where the answer is."""
        return records.folder_of(self.name) / "answer.txt"


def run(trial: Trial, slots: Sequence[Slot]) -> int:
    """Spend the budget, answer, and return the exit status."""
    replicates = max(2, round(_FIRST_SHARE * trial.plan.replicates), _begun(trial.name))
    interrupted = False
    while trial.left > trial.closing:
        try:
            interrupted = not _round(trial, slots, replicates)
        except KeyboardInterrupt:
            interrupted = True
        if interrupted:
            break
        more = _more(trial, slots, replicates)
        if more <= replicates:
            break
        _answer(trial, page=trial.closing < _PAGE_SHARE * trial.seconds)
        replicates = more
    _shrink(trial)
    found = _answer(trial, page=True)
    trial.update(trial.record)
    print(f"\n{duration(trial.spent)} of {duration(trial.seconds)} spent")
    if interrupted:
        print("stopped; the same command goes on where it was")
        return 130
    return 0 if found else 1


def _round(trial: Trial, slots: Sequence[Slot], replicates: int) -> bool:
    """Train so many replicates of all, as far as there is time; False after Ctrl-C."""
    folder, missing = _started(trial, replicates)
    if not missing:
        return True
    limit = trial.left - trial.closing - _FAREWELL
    if trial.plan.tuning_replicates and not _is_chosen(folder):
        limit = min(limit, _TUNING_UNTIL * trial.seconds - trial.spent)
    if limit > 0 and not _work(trial, folder, slots[:missing], limit):
        return False
    if trial.plan.tuning_replicates and not _is_chosen(folder):
        print("tuning takes too long for this budget: the trial goes on with default settings")
        plan = replace(trial.plan, probs=(), rates=(), tuning_replicates=0)
        trial.update(replace(trial.record, plan=plan))
    return True


def _started(trial: Trial, replicates: int) -> tuple[SweepFolder, int]:
    """Plan the sweep on disk with so many replicates; return it and how many runs are missing."""
    from mixbench.experiments.store.plan import Command

    wanted = prepare.with_data(trial.sweep(replicates), [], None)
    prepare.check_runs(wanted)
    # Each round has its own wish: what an earlier one asked for and this one does not, is given up.
    command = Command(time.time(), source=f"try:{trial.yaml_path}")
    found = reuse.find(wanted, reuse=True)
    return start(wanted, command, found, 0, may_reuse=True)


def _work(trial: Trial, folder: SweepFolder, slots: Sequence[Slot], seconds: float) -> bool:
    """Run workers until all is done or the time is up; False after Ctrl-C."""
    from mixbench.experiments.manage.observe import Observer
    from mixbench.experiments.manage.render import Display
    from mixbench.experiments.signals import interruptible
    from mixbench.experiments.worker import snapshot
    from mixbench.slurm.pool import Pool

    pool = Pool(folder, code=snapshot.take(folder), deadline=seconds)
    observer = Observer(folder)
    observer.snapshot()
    with interruptible() as interrupts, Display(names.follow_cell_names(observer)) as display:

        def show() -> None:
            display.show(observer.snapshot())
            trial.tick()
            _write_quietly(trial)

        ended = local_run.run(pool, slots, interrupts, show)
        display.show(observer.snapshot())
    if pool.unusable:
        raise UserError(pool.unusable)
    return ended


def _write_quietly(trial: Trial) -> None:
    """Write what is known within a round, for whoever looks, and for a trial that is killed."""
    passed = time.monotonic() - trial.written
    if passed < max(_QUIET_SECONDS, _QUIET_TIMES * trial.closing) or trial.left < 2 * trial.closing:
        return
    with contextlib.suppress(UserError):
        _answer(trial, page=trial.closing < _PAGE_SHARE * trial.seconds, says=False)
    trial.written = time.monotonic()


def _more(trial: Trial, slots: Sequence[Slot], replicates: int) -> int:
    """Return how many replicates the rest of the budget allows, by the times of the runs so far."""
    from mixbench.experiments.store.sweep_folder import SweepFolder

    folder = SweepFolder.open(trial.name)
    compared = [run for run in folder.plan() if run.part != "tuning"]
    results = [result for run in compared if (result := run.folder.result())]
    if not _is_chosen(folder) or len(results) < len(compared):
        # The time was up, or tuning was given up and nothing is compared yet.
        return replicates + (trial.plan.tuning_replicates == 0 and not results)
    parts = ("setup_seconds", "train_seconds", "evaluate_seconds")
    seconds = [sum(float(one["timing"][part]) for part in parts) for one in results]
    mean = sum(seconds) / len(seconds)
    overhead = trial.closing + 2 * trial.imports + _FAREWELL
    cells = trial.plan.cells
    return more_replicates(trial.left, mean, len(slots), cells, replicates, overhead)


def _begun(name: str) -> int:
    """Return how many replicates the sweep of the trial plans already."""
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if name not in SweepFolder.names():
        return 0
    plan = SweepFolder.open(name).plan()
    numbers = {run.config.get("replicate") for run in plan if run.part != "tuning"}
    return len(numbers - {None})


def _is_chosen(folder: SweepFolder) -> bool:
    return not any(run.pending for run in folder.plan())


def _shrink(trial: Trial) -> None:
    """Plan only replicates that all are done of, once the budget is spent."""
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if trial.name not in SweepFolder.names() or trial.left > trial.closing + _FAREWELL:
        return
    folder = SweepFolder.open(trial.name)
    plan = [run for run in folder.plan() if run.part != "tuning"]
    done: dict[int, int] = {}
    for run in plan:
        number = int(run.config.get("replicate") or 0)
        done[number] = done.get(number, 0) + (run.folder.state_on_file() == RunState.DONE)
    whole = 0
    while done.get(whole, 0) == trial.plan.cells:
        whole += 1
    if 2 <= whole < len(done):
        _started(trial, whole)


def _answer(trial: Trial, *, page: bool, says: bool = True) -> bool:
    """Write the answer, and the report with `page`; with `says` print it. Is there any result?"""
    from mixbench.analysis.report.data import collect
    from mixbench.analysis.report.trial import trial_text
    from mixbench.experiments.cli.recommend import defaults
    from mixbench.experiments.store.files import atomic_write
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if trial.name not in SweepFolder.names():
        return False
    folder = SweepFolder.open(trial.name)
    try:
        data = collect(folder, None)
    except UserError as error:
        if says:
            print(f"no answer yet: {error}")
        return False
    found = trial_text(data, defaults())
    began = time.monotonic()
    report = folder.path / "report" / "report.html"
    if page:
        from mixbench.analysis.report.build import write_report

        report = write_report(folder).html
        trial.closing = max(2.0, 1.2 * (time.monotonic() - began))
    runs = sum(run.folder.result() is not None for run in folder.plan())
    after = [
        "",
        *trial.record.notes,
        f"learning rate {trial.record.rate:g}, {plural(trial.plan.epochs, 'epoch')}, "
        f"{plural(runs, 'run')} in {duration(trial.spent)}",
        f"page: {report}",
        f"sweep: {trial.yaml_path}; `mixbench sweep` grows it",
        f"more time: mixbench try {trial.record.folder} --minutes {2 * trial.seconds / 60:g}",
    ]
    text = "\n".join([found.text, *after])
    atomic_write(trial.answer_path, text + "\n")
    trial.written = time.monotonic()
    if says:
        print(f"\n{text}\nanswer: {trial.answer_path}" if page else f"\nso far: {found.headline}")
    return True
