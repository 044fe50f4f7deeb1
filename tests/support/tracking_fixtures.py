"""Sweep folders as workers leave them, without training: whole runs, begun ones, failed ones."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

from PIL import Image

from mixbench.experiments import tracking
from mixbench.experiments.store import claims
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder

STEPS = 15
STARTED = 1_790_000_000.25
METHODS: tuple[dict[str, Any], ...] = (
    {"name": "none"},
    {"name": "mixup", "prob": 1.0, "per_sample": False, "alpha": 0.2},
    {"name": "mixup", "prob": 1.0, "per_sample": False, "alpha": 1.0},
    {"name": "cutmix", "prob": 1.0, "per_sample": False, "alpha": 1.0, "placement": "clipped"},
    {"name": "cutout", "prob": 1.0, "per_sample": False, "size": 14},
)

WRITES = (
    "create_experiment",
    "create_run",
    "delete_tag",
    "log_artifacts",
    "log_batch",
    "log_inputs",
    "set_terminated",
    "update_run",
)
"""The client's methods that change the store."""


def config(method: dict[str, Any], seed: int, epochs: int) -> dict[str, Any]:
    """A fully resolved configuration, as plan.jsonl has it."""
    return {
        "dataset": {
            "name": "fashion_mnist",
            "train_size": 2000,
            "train_fraction": None,
            "validation_fraction": 0.1,
            "split_seed": 0,
            "image_size": 28,
        },
        "model": {"name": "small_cnn", "width": None, "small_stem": False},
        "augmentation": dict(method),
        "training": {
            "epochs": epochs,
            "batch_size": 128,
            "learning_rate": 0.1,
            "nesterov": True,
            "weight_decay": 0.0005,
            "schedule": "one_cycle",
        },
        "evaluation": {
            "batch_size": 500,
            "ece_bins": 15,
            "occlusion": {"shapes": ["centre", "patches"], "fractions": [0.1, 0.25, 0.5, 0.75]},
        },
        "seed": seed,
    }


def make_sweep(
    name: str, methods: tuple[dict[str, Any], ...], seeds: int, epochs: int = 3
) -> SweepFolder:
    """A planned sweep, with no run begun."""
    runs = []
    for number, method in enumerate(methods):
        for seed in range(seeds):
            run_key = f"{number:08x}{seed:08x}"
            runs.append((run_key, f"{number:016x}", config(method, seed, epochs)))
    spec = {"name": name, "seeds": list(range(seeds))}
    return SweepFolder.create(name, f"About {name}.", spec, runs, "0123abc")


def begin(run: PlannedRun, epochs: int, started: float = STARTED) -> claims.Claim:
    """A run that this process holds, `epochs` epochs in; it counts as running until released."""
    folder = run.folder.path
    claim = claims.acquire(folder, "worker", claims.Watch())
    assert claim is not None
    claim.body["started"] = started
    claim.renew(force=True)
    body = {
        "schema": 1,
        "run_key": run.run_key,
        "cell_key": run.cell_key,
        "config": run.config,
    }
    atomic_write(folder / "config.json", dump(body))
    atomic_write(folder / "mixed.png", png(run.run_key))
    lines = [json.dumps(row(run, epoch, started)) for epoch in range(1, epochs + 1)]
    atomic_write(folder / "metrics.jsonl", "".join(f"{line}\n" for line in lines))
    return claim


def row(run: PlannedRun, epoch: int, started: float = STARTED) -> dict[str, Any]:
    """One line of metrics.jsonl; the numbers are the run's own."""
    numbers = random.Random(f"{run.run_key} {epoch}")
    return {
        "epoch": epoch,
        "step": STEPS * epoch,
        "time": started + 1.1237 * epoch,
        "train/loss": 2.3 / epoch + numbers.random() * 0.1,
        "validation/accuracy": 0.8 - 0.3 / epoch + numbers.random() * 0.01,
        "validation/nll": 0.6 + 1.0 / epoch,
        "learning_rate": 0.1 / epoch,
        "mix/own_weight": None if run.config["augmentation"]["name"] == "none" else 0.5,
        "images_per_second": 25_000.0 + epoch,
    }


def finish(run: PlannedRun, epochs: int = 3, started: float = STARTED) -> None:
    """A run from claim to result.json."""
    claim = begin(run, epochs, started)
    ended = started + 1.1237 * epochs + 2.5
    _attempt(run.folder, started, ended, "done", None)
    atomic_write(run.folder.path / "result.json", dump(_result(run, epochs, started, ended)))
    claim.release("done")


def fail(run: PlannedRun, epochs: int = 1) -> None:
    """A run that raised after `epochs` epochs."""
    claim = begin(run, epochs)
    error = "ValueError: the loss is not finite"
    _attempt(run.folder, STARTED, STARTED + 2, "failed", error)
    trace = f"Traceback (most recent call last):\n  ...\n{error}\n"
    failure = {"error": error, "traceback": trace, "time": STARTED + 2, "attempt": 1}
    atomic_write(run.folder.path / "failure.json", dump(failure))
    claim.release("failed")


def interrupt(run: PlannedRun, epochs: int = 2) -> None:
    """A run that a worker left in the middle."""
    claim = begin(run, epochs)
    _attempt(run.folder, STARTED, STARTED + 1.2 * epochs, "interrupted", None)
    claim.release("interrupted")


def png(text: str) -> bytes:
    """A small picture, different for different texts."""
    numbers = random.Random(text)
    image = Image.frombytes("L", (8 * 28, 28), numbers.randbytes(8 * 28 * 28))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def figures(folder: RunFolder) -> dict[str, bytes]:
    """Stands for the drawing of the two figures, which is the report's work."""
    assert folder.result() is not None
    return {name: png(f"{folder.run_key} {name}") for name in ("occlusion.png", "reliability.png")}


def _attempt(
    folder: RunFolder, started: float, ended: float, outcome: str, error: str | None
) -> None:
    folder.add_attempt(
        {
            "attempt": 1,
            "worker": "worker",
            "started": started,
            "ended": ended,
            "outcome": outcome,
            "error": error,
        }
    )


def _result(run: PlannedRun, epochs: int, started: float, ended: float) -> dict[str, Any]:
    last = row(run, epochs, started)
    accuracy = last["validation/accuracy"] - 0.01
    fractions = [0.1, 0.25, 0.5, 0.75]
    metrics: dict[str, float | None] = {
        "test/accuracy": accuracy,
        "test/nll": 0.61,
        "test/brier": 0.29,
        "test/ece": 0.034,
        "test/gap": -0.031,
        "train/accuracy": accuracy + 0.05,
        "train/nll": 0.3,
        "validation/accuracy": last["validation/accuracy"],
        "validation/nll": last["validation/nll"],
        "best/epoch": float(epochs),
        "best/validation_accuracy": last["validation/accuracy"],
    }
    curves: dict[str, Any] = {}
    for shape in ("centre", "patches"):
        for fraction in fractions:
            metrics[f"occlusion/{shape}/{fraction}"] = accuracy * (1 - fraction)
            metrics[f"occlusion/{shape}/retention/{fraction}"] = 1 - fraction
        metrics[f"occlusion/{shape}/area"] = None if shape == "patches" else accuracy * 0.6
        metrics[f"occlusion/{shape}/noise/area"] = accuracy * 0.5
        curves[shape] = {
            "fraction": [0.0, *fractions],
            "accuracy": [accuracy * (1 - fraction) for fraction in (0.0, *fractions)],
        }
    return {
        "schema": 1,
        "run_key": run.run_key,
        "cell_key": run.cell_key,
        "seed": run.config["seed"],
        "metrics": metrics,
        "curves": {"occlusion": curves},
        "dataset": {
            "name": "fashion_mnist",
            "train": 1800,
            "validation": 200,
            "test": 10000,
            "classes": ["T-shirt/top", "Trouser"],
            "digest": "9f" * 32,
            "source": "/usr/share/datasets/fashion-mnist",
        },
        "provenance": {
            "device": "cpu: AMD EPYC",
            "host": "node1",
            "threads": 1,
            "python": "3.11.7",
            "torch": "2.9.0",
            "mixbench": "0.1.0",
            "commit": "0123abc",
            "started": started,
            "finished": ended,
        },
        "timing": {
            "train_seconds": 1.1237 * epochs,
            "evaluate_seconds": 1.5,
            "setup_seconds": 1.0,
            "images_per_second": 25_001.0,
        },
    }


def project_with_kills(sweep: SweepFolder, template: Path, folder: Path) -> None:
    """Project into a store of its own for every number of writes after which it is killed.

    Each killed projection is followed by a whole one. Runs in a process of its own, which must
    have no threads; folder/N/mlflow.db is the store of the projection killed after N writes, and
    folder/0 of one left alone.
    """
    from mlflow import MlflowClient
    from mlflow.store.tracking import sqlalchemy_store

    assert sqlalchemy_store, "imported here, once, and not in every child"

    total = _in_child(sweep, MlflowClient, _store_in(folder, 0, template), None)
    for writes in range(1, total, 5):
        uri = _store_in(folder, writes, template)
        assert _in_child(sweep, MlflowClient, uri, writes) == -1
        _in_child(sweep, MlflowClient, uri, None)


def _store_in(folder: Path, number: int, template: Path) -> str:
    place = folder / str(number)
    place.mkdir(parents=True)
    shutil.copy(template, place / "mlflow.db")
    return f"sqlite:///{place / 'mlflow.db'}"


def _in_child(sweep: SweepFolder, client: type[Any], uri: str, die_after: int | None) -> int:
    """How many writes the projection made, in a forked process; -1 if it was killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = 0

        def counted(write: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                answer = write(*args, **kwargs)
                count += 1
                if count == die_after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer

            return call

        for name in WRITES:
            setattr(client, name, counted(getattr(client, name)))
        status = 1
        try:
            tracking.project(sweep, uri, figures)
            os.write(writer, str(count).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return -1
    assert os.waitstatus_to_exitcode(status) == 0
    return int(text)


def root_of(sweep: SweepFolder) -> Path:
    """The folder that holds the sweeps."""
    return sweep.path.parent
