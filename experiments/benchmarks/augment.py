"""Measure how fast batches are mixed, by mixbench and by other libraries, in one run."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixbench.experiments.benchmarks import peers
from mixbench.experiments.store import provenance

SHAPES = ((128, 3, 32, 32), (512, 1, 28, 28), (32, 3, 224, 224))
CLASSES = 10
BEST = 0.2
"""The share of the calls that counts, the fastest: other work slows down the rest."""
SCHEMA = 1


def measure(
    methods: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    device: torch.device,
    seconds: float = 2.0,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Images per second, times the time of `out.copy_(x)`, and peak memory of every contestant.

    A call takes float32 images and integer labels to mixed images and mixed labels, draws included.
    The calls of a method and shape take turns for `seconds` (each at least five times), and the
    fastest 20% of each count. memory: the most that a call holds at once beside its input, in MB
    (10^6 bytes) of torch's allocations. `tell` is called with what is being measured.
    Returns a JSON-able object: `machine`, `rows`, `missing` (libraries that are not installed) and
    `refused` (which library does not accept which batch, as text).
    """
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    for shape in shapes:
        images = torch.rand(shape, device=device)
        labels = torch.randint(CLASSES, (shape[0],), device=device)
        for method in methods:
            tell(f"{method} {_title(shape)}")
            rows += _measured(method, images, labels, seconds, refused)
    return {
        "schema": SCHEMA,
        "machine": {**provenance.of(device), "cores": os.cpu_count(), "versions": peers.versions()},
        "missing": peers.missing(),
        "refused": list(dict.fromkeys(refused)),
        "seconds": seconds,
        "rows": rows,
    }


def _measured(
    method: str, images: Tensor, labels: Tensor, seconds: float, refused: list[str]
) -> list[dict[str, Any]]:
    shape, device = tuple(images.shape), images.device
    entries: list[peers.Entry] = []
    calls: list[Callable[[], object]] = []
    for entry in peers.entries(method, shape, CLASSES, device):
        # One that works in place gets its own copy of the images, and mixes it repeatedly.
        given = images.clone() if entry.in_place else images
        call = _bound(entry.call, given, labels)
        try:
            call()
        except (AssertionError, ValueError, IndexError) as error:
            # Others don't accept every batch: timm's must be even. Ours must accept all.
            if entry.library == peers.OURS:
                raise
            refused.append(f"{entry.library}, {method} at {_title(shape)}: {error}")
            continue
        entries.append(entry)
        calls.append(call)
    out = torch.empty_like(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        memory = [_peak_memory(call, device) for call in calls]
        times = interleaved([lambda: out.copy_(images), *calls], device, seconds)
    copy = times[0]
    return [
        {
            "method": method,
            "shape": list(shape),
            "library": entry.library,
            "mode": "sample" if entry.per_sample else "batch",
            "in_place": entry.in_place,
            "note": entry.note,
            "seconds": spent,
            "images_per_second": shape[0] / spent,
            "times_copy": spent / copy,
            "peak_megabytes": held / 1e6,
        }
        for entry, spent, held in zip(entries, times[1:], memory, strict=True)
    ]


def interleaved(
    calls: Sequence[Callable[[], object]], device: torch.device, seconds: float
) -> list[float]:
    """Seconds of each call; calls take turns, so that other work slows all of them alike.

    The mean of the fastest 20% of its turns. On a GPU a turn is several calls and one wait.
    """

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    repeats = 10 if device.type == "cuda" else 1
    for call in calls:
        call()
    wait()
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    turn = 0
    while turn < 5 or time.perf_counter() < end:
        # Each round begins with another one, so that none always follows the same neighbour.
        for offset in range(len(calls)):
            index = (turn + offset) % len(calls)
            call = calls[index]
            started = time.perf_counter()
            for _ in range(repeats):
                call()
            wait()
            times[index].append((time.perf_counter() - started) / repeats)
        turn += 1
    return [best(values) for values in times]


def best(values: Sequence[float]) -> float:
    """The mean of the fastest 20%, at least one."""
    fastest = sorted(values)[: max(1, int(len(values) * BEST))]
    return sum(fastest) / len(fastest)


def _bound(call: peers.Call, images: Tensor, labels: Tensor) -> Callable[[], object]:
    return lambda: call(images, labels)


def _peak_memory(call: Callable[[], object], device: torch.device) -> float:
    """Bytes of torch's allocations that a call holds at once at the most."""
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return float(torch.cuda.max_memory_allocated(device) - before)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "trace.json"
        with (
            _silent(),
            torch.profiler.profile(activities=activities, profile_memory=True) as profile,
        ):
            result = call()  # Until the end: what is returned counts too.
        del result
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    held = most = 0.0
    changes = [event for event in events if event.get("name") == "[memory]"]
    for event in sorted(changes, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        most = max(most, held)
    return most


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silence the standard error: the profiler writes there directly, past Python."""
    stderr_copy = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr_copy, 2)
        os.close(stderr_copy)


def _title(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def table(result: dict[str, Any]) -> str:
    """The rows as text: per shape and method, fastest first within per-sample and per-batch."""
    lines = []
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines.append(f"{machine['device']}, {machine['cores']} cores, {machine['threads']} threads")
    lines.append(f"{versions}; Python {machine['python']}")
    if result["missing"]:
        lines.append(f"not installed, left out: {', '.join(result['missing'])}")
    lines += [f"left out: {' '.join(words.split())}" for words in result["refused"]]
    for shape in dict.fromkeys(tuple(row["shape"]) for row in result["rows"]):
        lines.append("")
        lines.append(
            f"{_title(shape):24} {'':20} {'images/s':>11} {'x copy':>8} {'peak MB':>8} {'ours':>7}"
        )
        shaped = [row for row in result["rows"] if tuple(row["shape"]) == shape]
        for method in dict.fromkeys(row["method"] for row in shaped):
            for mode in ("batch", "sample"):
                chosen = [r for r in shaped if r["method"] == method and r["mode"] == mode]
                chosen.sort(key=lambda row: row["seconds"])
                ours = [row["seconds"] for row in chosen if row["library"] == peers.OURS]
                for row in chosen:
                    name = row["library"] + (" (in place)" if row["in_place"] else "")
                    ratio = f"{row['seconds'] / ours[0]:6.2f}x" if ours else ""
                    lines.append(
                        f"{method:15}{mode:9} {name:20} {row['images_per_second']:11,.0f} "
                        f"{row['times_copy']:8.1f} {row['peak_megabytes']:8.1f} {ratio:>7}"
                    )
    lines += ["", "ours: how many times our call's time the call takes (above 1: we are faster)"]
    return "\n".join(lines)


def page(result: dict[str, Any]) -> str:
    """The table as a page in Markdown, beside its figure."""
    where = result["machine"]
    return "\n".join(
        [
            "# Speed of mixing",
            "",
            "`mixbench bench augment`: a call takes float32 images and labels to mixed images and "
            "mixed labels,",
            "draws included; all contestants of a method take turns in one run, and the fastest "
            "20% of the calls",
            f"count. Commit {where['commit'] or 'not known'}.",
            "",
            "![Times the time of a copy](augment.png)",
            "",
            "```",
            table(result),
            "```",
            "",
        ]
    )
