"""Show a sweep as text and tables, for `mixbench sweep` and `mixbench status`."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixbench.experiments.manage.status import RunStatus, Status
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import duration, plural

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

ROWS = 20
"""How many runs of a kind are shown; `mixbench status --json` has them all."""
LINE_SECONDS = 15.0


def line(now: Status) -> str:
    """One line of progress, for logs and for terminals that can't be redrawn."""
    known = now.seconds_left is not None and not now.settled
    left = f", {duration(now.seconds_left or 0.0)} left" if known else ""
    stale = now.count(RunState.STALE)
    return (
        f"{now.done}/{now.total} runs done, {len(now.running)} running, {now.failed} failed, "
        f"{f'{stale} stale, ' if stale else ''}"
        f"{now.epochs:.0f}/{now.epochs_total} epochs, {now.images_per_second:,.0f} images/s{left}"
    )


def panel(
    now: Status,
    labels: Mapping[str, str],
    *,
    notes: Sequence[str] = (),
    rows: int = ROWS,
) -> RenderableType:
    """The sweep as counts, a bar, and a table for each state that needs attention.

    labels: cell_key -> name. notes: lines at the end. rows: the most that are shown of a kind.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_counts(now), _bar(now)]
    kinds = (
        ("running", now.running, _running),
        ("failed", now.of(RunState.FAILED), _failed),
        ("stale", now.of(RunState.STALE), _stale),
        ("to be tried again", [r for r in now.retried if r.state == RunState.WAITING], _failed),
    )
    for title, runs, table in kinds:
        if runs:
            shown = runs if len(runs) <= rows else runs[: max(1, rows - 1)]
            hidden = len(runs) - len(shown)
            parts += [Text(""), Text(title, style="bold"), table(shown, now, labels)]
            if hidden:
                parts.append(Text(f"and {hidden:,} more {title}", style="dim"))
    notes = [*_waiting(now, labels), *_choosing(now, labels), *notes]
    if notes:
        parts += [Text(""), *(Text(note) for note in notes)]
    return Group(*parts)


def _waiting(now: Status, labels: Mapping[str, str]) -> list[str]:
    """Which runs others wait for, in a line."""
    waited_for = now.waited_for
    if not waited_for:
        return []
    runs = {run.run_key: run for run in now.runs}
    phrases = [
        f"{key[: now.key_length]} ({labels.get(runs[key].cell_key, runs[key].name)}, seed "
        f"{runs[key].seed}, {runs[key].state}): {count}"
        for key, count in waited_for.items()
    ]
    more = f" and {len(phrases) - 3} more" if len(phrases) > 3 else ""
    waiting = sum(waited_for.values())
    return [
        f"{plural(waiting, 'run')} {'waits' if waiting == 1 else 'wait'} for the pretraining that "
        f"they start from: {'; '.join(phrases[:3])}{more}"
    ]


def _choosing(now: Status, labels: Mapping[str, str]) -> list[str]:
    """How many runs wait for the choice of their setting, in a line."""
    waiting: dict[str, int] = {}
    for run in now.runs:
        if run.waits_for_choice and run.state == RunState.WAITING:
            waiting[run.cell_key] = waiting.get(run.cell_key, 0) + 1
    if not waiting:
        return []
    count, done = sum(waiting.values()), [run for run in now.runs if run.part == "tuning"]
    cells = ", ".join(labels.get(key, key) for key in list(waiting)[:3])
    more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
    left = sum(run.state != RunState.DONE for run in done)
    return [
        f"{plural(count, 'run')} {'waits' if count == 1 else 'wait'} for the choice of a setting "
        f"({cells}{more}): {len(done) - left} of {plural(len(done), 'tuning run')} done"
    ]


def overview(rows: Sequence[tuple[str, Status | str]]) -> RenderableType:
    """A line per sweep: (name, its status, or why it can't be read)."""
    table = _table(
        ("sweep", "left"),
        ("runs", "right"),
        ("done", "right"),
        ("running", "right"),
        ("failed", "right"),
        ("stale", "right"),
        ("waiting", "right"),
        ("", "wrap"),
    )
    for name, now in rows:
        if isinstance(now, str):
            table.add_row(name, *[""] * 6, now)
            continue
        counts = [now.total, *(now.count(state) for state in RunState)]
        left = now.seconds_left
        note = f"stopped ({now.stopped})" if now.stopped else ""
        if not note and left is not None and not now.settled:
            note = f"about {duration(left)} left"
        table.add_row(name, *(f"{count:,}" for count in counts), note)
    return table


def printed(content: RenderableType) -> str:
    """The content as text: coloured and as wide as the terminal, or plain and as wide as it is."""
    from rich.console import Console

    shown = io.StringIO()
    if sys.stdout.isatty():
        Console(file=shown, force_terminal=True, width=Console().width).print(content)
        return shown.getvalue()
    Console(file=shown, width=1000).print(content)
    return "".join(f"{text.rstrip()}\n" for text in shown.getvalue().splitlines())


def _counts(now: Status) -> RenderableType:
    from rich.text import Text

    failed, stale, retried = now.failed, now.count(RunState.STALE), len(now.retried)
    words = [
        (f"{now.done:,}/{now.total:,} done", "green" if now.done == now.total else ""),
        (f"{len(now.running):,} running", "cyan" if now.running else ""),
        (f"{failed:,} failed", "bold red" if failed else ""),
        *([(f"{stale:,} stale", "bold yellow")] if stale else []),
        (f"{now.count(RunState.WAITING):,} waiting", ""),
        *([(f"{retried:,} tried again", "yellow")] if retried else []),
    ]
    text = Text.assemble((now.sweep, "bold"))
    for word in words:
        text.append("  ").append(*word)
    return text


def _bar(now: Status) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    text = f"{now.epochs:,.0f}/{now.epochs_total:,} epochs"
    if now.images_per_second:
        text += f"  {now.images_per_second:,.0f} images/s"
    if now.seconds_left is not None and not now.settled:
        text += f"  about {duration(now.seconds_left)} left"
    # In a grid, because a bar by itself does not end its line.
    grid = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=max(1, now.epochs_total), completed=now.epochs, width=24)
    grid.add_row(*([bar] if sys.stdout.isatty() else []), text)
    return grid


def _table(*columns: tuple[str, str]) -> Table:
    """A table whose columns are (title, "left", "right" or "wrap")."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title, kind in columns:
        if kind == "wrap":
            table.add_column(title, overflow="fold", ratio=None, min_width=12)
        else:
            table.add_column(title, no_wrap=True, justify="right" if kind == "right" else "left")
    return table


def _running(runs: list[RunStatus], now: Status, labels: Mapping[str, str]) -> Table:
    with_retries = any(run.faults for run in runs)
    table = _table(
        ("run", "left"),
        ("configuration", "wrap"),
        ("seed", "right"),
        ("epoch", "right"),
        ("images/s", "right"),
        ("left", "left"),
        ("where", "wrap"),
        *([("tried again after", "wrap")] if with_retries else []),
    )
    for run in runs:
        rate = f"{run.images_per_second:,.0f}" if run.images_per_second else ""
        training = run.stage == "training"
        table.add_row(
            run.run_key[: now.key_length],
            labels.get(run.cell_key, run.name),
            str(run.seed),
            f"{run.epoch:.1f}/{run.epochs}" if training else str(run.stage),
            rate if training else "",
            duration(run.seconds_left) if training and run.seconds_left is not None else "",
            _where(run),
            *([run.error or ""] if with_retries else []),
        )
    return table


def _failed(runs: list[RunStatus], now: Status, labels: Mapping[str, str]) -> RenderableType:
    """Group failed runs by reason: reasons are long, and many runs may share one."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    by_reason: dict[str, list[RunStatus]] = {}
    for run in runs:
        by_reason.setdefault(run.error or "no reason is known", []).append(run)
    parts: list[RenderableType] = []
    for reason, alike in by_reason.items():
        table = Table.grid(padding=(0, 2, 0, 0))
        for run in alike:
            table.add_row(
                f"  {run.run_key[: now.key_length]}",
                labels.get(run.cell_key, run.name),
                f"seed {run.seed}",
                plural(run.attempts, "attempt"),
            )
        parts += [Text(reason, style="red"), table]
    return Group(*parts)


def _stale(runs: list[RunStatus], now: Status, labels: Mapping[str, str]) -> Table:
    table = _table(
        ("run", "left"),
        ("configuration", "wrap"),
        ("seed", "right"),
        ("epoch", "right"),
        ("last heartbeat", "left"),
        ("where", "wrap"),
    )
    for run in runs:
        table.add_row(
            run.run_key[: now.key_length],
            labels.get(run.cell_key, run.name),
            str(run.seed),
            f"{run.epoch:.0f}/{run.epochs}",
            f"{duration(run.silent or 0.0)} ago",
            _where(run),
        )
    return table


def _where(run: RunStatus) -> str:
    """The worker, which is named after its host where it was not given a name; the job."""
    worker, host = run.worker or "?", run.host or ""
    label = worker if worker.startswith(host) else f"{worker} on {host}"
    return f"{label}, job {run.job}" if run.job else label


class Display:
    """Shows snapshots: redrawn in place on a terminal, a line now and then elsewhere.

    labels: returns cell_key -> name, of the newest plan; without them runs go by their
    augmentation.
    """

    def __init__(self, labels: Callable[[], Mapping[str, str]] = dict) -> None:
        self.labels = labels
        self.live: Any = None
        self.last_line = 0.0
        self.last_settled = -1

    def __enter__(self) -> Display:
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(refresh_per_second=4)
            self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.__exit__(*error)

    def show(self, now: Status, notes: Sequence[str] = ()) -> None:
        """Bring the display up to date."""
        if self.live is not None:
            # What does not fit the terminal can't be redrawn.
            room = max(3, (self.live.console.height - 10) // 2)
            self.live.update(panel(now, self.labels(), notes=notes, rows=min(ROWS, room)))
            return
        settled = now.done + now.failed
        moment = time.monotonic()
        if moment - self.last_line >= LINE_SECONDS or settled != self.last_settled:
            print(line(now), flush=True)
            self.last_line, self.last_settled = moment, settled
