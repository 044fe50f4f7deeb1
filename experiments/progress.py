"""The live display of a sweep: runs done, running and failed, epochs, images/s, time left."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from experiments.store import PlannedRun, SweepFolder


@dataclass
class Snapshot:
    """A sweep at one moment. `epochs` counts those of all runs, in parts."""

    total: int
    done: int
    failed: int
    running: list[dict[str, Any]]
    epochs: float
    epochs_total: int
    images_per_second: float
    seconds_left: float | None


@dataclass
class Progress:
    """Reads a sweep folder again and again; looks only at runs that were not finished before."""

    folder: SweepFolder
    plan: list[PlannedRun] = field(init=False)
    finished: dict[str, str] = field(default_factory=dict)
    began: float = field(init=False)
    epochs_at_start: float | None = None

    def __post_init__(self) -> None:
        self.plan = self.folder.plan()
        self.began = time.monotonic()

    def snapshot(self) -> Snapshot:
        """The sweep now. The time left is extrapolated from the epochs since the first snapshot."""
        running = []
        epochs = 0.0
        total_epochs = 0
        for planned in self.plan:
            run_epochs = planned.config["training"]["epochs"]
            state = self.finished.get(planned.run_key) or planned.folder.state()
            if state in ("done", "failed"):
                self.finished[planned.run_key] = state
            if state == "failed":
                # Its epochs are neither done nor to come.
                continue
            total_epochs += run_epochs
            if state == "done":
                epochs += run_epochs
            elif state == "running":
                claim = planned.folder.claim() or {}
                progress = claim.get("progress") or {}
                part = run_epochs if progress.get("stage") == "measuring" else 0.0
                part = progress.get("epoch", part)
                epochs += part
                running.append(
                    {
                        "run_key": planned.run_key,
                        "augmentation": planned.config["augmentation"]["name"],
                        "seed": planned.config["seed"],
                        "stage": progress.get("stage", "starting"),
                        "epoch": part,
                        "epochs": run_epochs,
                        "images_per_second": progress.get("images_per_second", 0.0),
                    }
                )
        if self.epochs_at_start is None:
            self.epochs_at_start = epochs
        gained = epochs - self.epochs_at_start
        elapsed = time.monotonic() - self.began
        left = (total_epochs - epochs) * elapsed / gained if gained >= 1 else None
        states = list(self.finished.values())
        return Snapshot(
            total=len(self.plan),
            done=states.count("done"),
            failed=states.count("failed"),
            running=running,
            epochs=epochs,
            epochs_total=total_epochs,
            images_per_second=sum(run["images_per_second"] for run in running),
            seconds_left=left,
        )


def line(now: Snapshot) -> str:
    """One line of progress, for logs and for terminals that can't be redrawn."""
    left = "" if now.seconds_left is None else f", {duration(now.seconds_left)} left"
    return (
        f"{now.done}/{now.total} runs done, {len(now.running)} running, {now.failed} failed, "
        f"{now.epochs:.0f}/{now.epochs_total} epochs, {now.images_per_second:,.0f} images/s{left}"
    )


def duration(seconds: float) -> str:
    """Such as "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Display:
    """Shows snapshots: redrawn in place on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.live: Any = None
        self.last_line = 0.0
        self.last_done = -1

    def __enter__(self) -> Display:
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(refresh_per_second=4)
            self.live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.__exit__(*error)

    def show(self, now: Snapshot) -> None:
        """Bring the display up to date."""
        if self.live is not None:
            self.live.update(self._panel(now))
            return
        settled = now.done + now.failed
        moment = time.monotonic()
        if moment - self.last_line >= 15 or settled != self.last_done:
            print(line(now), flush=True)
            self.last_line, self.last_done = moment, settled

    def _panel(self, now: Snapshot) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Text.assemble(
            (self.title, "bold"),
            f"  {now.done}/{now.total} done  {len(now.running)} running  ",
            (f"{now.failed} failed", "bold red" if now.failed else ""),
            f"  {now.epochs:.0f}/{now.epochs_total} epochs  {now.images_per_second:,.0f} images/s",
            "" if now.seconds_left is None else f"  {duration(now.seconds_left)} left",
        )
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for run in now.running[:16]:
            table.add_row(
                run["run_key"][:8],
                run["augmentation"],
                f"seed {run['seed']}",
                f"epoch {run['epoch']:.1f}/{run['epochs']}"
                if run["stage"] == "training"
                else run["stage"],
                f"{run['images_per_second']:,.0f} images/s" if run["images_per_second"] else "",
            )
        if len(now.running) > 16:
            table.add_row(f"and {len(now.running) - 16} more")
        # In a grid, because a bar by itself does not end its line.
        bar = Table.grid()
        bar.add_row(ProgressBar(total=max(1, now.epochs_total), completed=now.epochs, width=72))
        return Group(head, bar, table)
