"""Run the processes of a sweep on this machine until they end or Ctrl-C stops them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixbench.experiments.signals import Interrupts
    from mixbench.slurm.local import Slot
    from mixbench.slurm.processes import Processes

POLL_SECONDS = 0.5


def run(
    processes: Processes, slots: Sequence[Slot], interrupts: Interrupts, show: Callable[[], None]
) -> bool:
    """Start a process in each slot and call `show` until all have ended; False after Ctrl-C.

    To be called inside `interruptible()`, which gives `interrupts`.
    """
    try:
        for slot in slots:
            processes.start(slot)
        while processes.poll():
            interrupts.check()
            show()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        _stop(processes)
        return False
    except BaseException:
        processes.stop()
        raise
    return True


def _stop(processes: Processes) -> None:
    """End the processes; another Ctrl-C must not leave any behind."""
    print("\nstopping the workers", flush=True)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.stop()
    signal.signal(signal.SIGINT, previous)
