"""Functions that are run by several real ranks at once, each in a process of its own.

The processes are forked from one that has done the slow imports: this module's, so that it knows
the functions too.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scipy.special  # noqa: F401  # what the measurements import
import torch
import torch._dynamo  # DDP's constructor imports it

from mixbench.experiments.ranks import Group, Ranks

Job = Callable[..., Any]
DEFAULT = multiprocessing.get_start_method()
HERE = "tests.support.ranking"


def on_ranks(size: int, folder: Path, job: Job, *arguments: Any) -> list[Any]:
    """What `job(ranks, *arguments)` gives on each of `size` ranks; tensors and plain values."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([HERE, job.__module__])
    store = torch.distributed.TCPStore("127.0.0.1", 0, size, is_master=True, wait_for_workers=False)
    processes = [
        context.Process(
            target=_rank, args=(rank, size, store.port, str(folder), job, arguments), daemon=False
        )
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        for rank, process in enumerate(processes):
            process.join(300)
            error = folder / f"error{rank}.txt"
            assert not error.exists(), error.read_text()
            assert process.exitcode == 0, f"rank {rank} ended with {process.exitcode}"
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(size)]


def _rank(
    rank: int, size: int, port: int, folder: str, job: Job, arguments: tuple[Any, ...]
) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    # Not "forkserver", as for this process, but what a rank that is a program of its own has.
    multiprocessing.set_start_method(DEFAULT, force=True)
    try:
        store = torch.distributed.TCPStore("127.0.0.1", port, size, is_master=False)
        ranks: Ranks = Group(store, rank, size, torch.device("cpu"))
        torch.save(job(ranks, *arguments), Path(folder) / f"rank{rank}.pt")
        ranks.wait()
        ranks.close()
    except BaseException:
        (Path(folder) / f"error{rank}.txt").write_text(traceback.format_exc())
        os._exit(1)
