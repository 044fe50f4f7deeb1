"""Execute a claimed run: data, network, training, measurements, `result.json` last."""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mixbench.experiments.config.member_file import told
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data import pictures
from mixbench.experiments.data.audio.front_end import with_spectrograms
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load_once
from mixbench.experiments.data.streams import with_streams
from mixbench.experiments.evaluation.after_training import Measurements
from mixbench.experiments.models.build import build
from mixbench.experiments.models.pairs import with_second_side
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.signals import Stop
from mixbench.experiments.store import checkpoint, plugin_code, provenance
from mixbench.experiments.store.claims import Claim, ClaimLost
from mixbench.experiments.store.files import SCHEMA, atomic_write, dump
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.tasks.base import Task, task_of
from mixbench.experiments.training.distillation import Distillation, measure_agreement
from mixbench.experiments.training.loop import train
from mixbench.experiments.transfer.load import load_weights

log = logging.getLogger(__name__)


def execute(
    config: RunConfig,
    folder: RunFolder,
    device: torch.device,
    claim: Claim,
    stop: Stop,
    ranks: Ranks = ALONE,
    until: int | None = None,
) -> None:
    """Train and measure `config` in `folder`, which `claim` holds; `result.json` ends it.

    Goes on from the folder's checkpoint if there is one. Raises what `claim.renew` raises, Stopped
    when `stop` asks for it, Paused after the epoch `until`, and any error of the run itself; writes
    nothing afterwards.
    """
    started = time.time()
    plugins = _plugin_record(config, folder)
    atomic_write(folder.path / "config.json", dump(_with_keys(config) | plugins))
    provenance.commit()  # Now: the code that runs, not what is checked out when it ends.
    with claim.keep_renewing():
        dataset, network = load_run(config, device, folder.path.parent)
        strip = pictures.mixed_strip(dataset, config.augmentation, config.training.random_crops)
        ranks.wait()
    atomic_write(folder.path / "mixed.png", strip)
    setup_seconds = time.time() - started

    with stop.defer_signals():
        summary = train(
            network, dataset, config, device, folder.path, claim.renew, stop.asked, ranks, until
        )
    evaluation_started = time.time()

    def beat() -> None:
        claim.renew({"stage": "measuring"})
        stop.check()

    measured = _measure(config, network, dataset, device, beat, folder, ranks)
    _write_predictions(folder.path / "predictions.npz", measured.clean)
    metrics = {**measured.metrics, **_pop_metrics(summary, config)}
    result = {
        "schema": SCHEMA,
        "run_key": config.run_key,
        "cell_key": config.cell_key,
        "seed": config.seed,
        **({} if config.replicate is None else {"replicate": config.replicate}),
        "attempt": claim.number,
        "metrics": metrics,
        "curves": measured.clean.curves,
        "dataset": _describe(dataset, measured.skipped),
        "provenance": {
            **provenance.of(device),
            **plugins,
            "started": started,
            "finished": time.time(),
        },
        "timing": {
            "setup_seconds": setup_seconds,
            **summary,
            "evaluate_seconds": time.time() - evaluation_started,
        },
    }
    claim.renew(force=True)
    if not folder.finish(result):
        raise ClaimLost(f"{config.run_key}: another worker was done with it first")
    checkpoint.drop_previous(folder.path)


def assist(config: RunConfig, folder: RunFolder, device: torch.device, ranks: Ranks) -> None:
    """Take part in the training and the measuring of a run that rank 0 executes."""
    dataset, network = load_run(config, device, folder.path.parent)
    ranks.wait()

    def beat(progress: dict[str, Any] | None, *, force: bool = False) -> None:
        """Do nothing: rank 0 has the claim."""

    train(network, dataset, config, device, folder.path, beat, ranks=ranks)
    _measure(config, network, dataset, device, lambda: None, folder, ranks)


@dataclass(frozen=True)
class _Measured:
    """What was measured of a trained network, by all ranks together.

    clean: by its task. metrics: those, and those of averages of its weights and of its teacher.
    skipped: images that were left out, and why.
    """

    clean: Measurements
    metrics: dict[str, float | None]
    skipped: dict[str, str]


def _measure(
    config: RunConfig,
    network: nn.Module,
    dataset: Dataset,
    device: torch.device,
    beat: Callable[[], None],
    folder: RunFolder,
    ranks: Ranks,
) -> _Measured:
    """Measure what a run measures after its training; all ranks do."""
    task = task_of(config, dataset, device)
    clean = task.measure(network, dataset, beat, ranks)
    of_averages = _measure_averages(network, dataset, task, beat, folder, ranks)
    of_teacher = _measure_teacher(clean, dataset, task, beat, folder, ranks)
    by_rank = ranks.gather(sorted(dataset.skipped.items()))
    skipped = dict(entry for entries in by_rank for entry in entries)
    return _Measured(clean, {**clean.metrics, **of_averages, **of_teacher}, skipped)


def _pop_metrics(summary: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """Take the metrics of the training out of its summary, which keeps its times."""
    best = config.task_info.validation[0][0]
    return {
        "best/epoch": summary.pop("best_epoch"),
        f"best/validation_{best}": summary.pop(f"best_validation_{best}"),
        "mix/dose": summary.pop("dose"),
        **summary.pop("noise"),
        **summary.pop("unlabelled"),
    }


def _measure_averages(
    network: nn.Module,
    dataset: Dataset,
    task: Task,
    beat: Callable[[], None],
    folder: RunFolder,
    ranks: Ranks,
) -> dict[str, float | None]:
    """Measure the averages of the weights that are measured beside the last ones.

    `network` has the last of them afterwards.
    """
    metrics: dict[str, float | None] = {}
    for name in task.config.training.averages_beside:
        # The checkpoint of the training's end; only rank 0 is sure to see its own file.
        average: Any = next(checkpoint.load(folder.path))[name] if ranks.leads else None
        network.load_state_dict(ranks.share(average))
        metrics |= task.measure_average(network, dataset, beat, ranks, name)
    return metrics


def _measure_teacher(
    measured: Measurements,
    dataset: Dataset,
    task: Task,
    beat: Callable[[], None],
    folder: RunFolder,
    ranks: Ranks,
) -> dict[str, float | None]:
    """Compare the run with its teacher; empty without one."""
    runs = folder.path.parent
    distillation = Distillation.of(task.config, dataset, task.device, runs)
    if distillation is None:
        return {}
    logits = measured.predictions.get("logits")
    return measure_agreement(distillation, logits, task, dataset, beat, ranks)


def load_run(config: RunConfig, device: torch.device, runs: Path) -> tuple[Dataset, nn.Module]:
    """Return the data of a run and its network as training begins.

    runs: the folder of the sweep's runs, where weights of its own pretraining are.
    """
    dataset = load_once(config.dataset, str(device), config.training.random_crops)
    dataset = with_streams(dataset, config, device)
    network = build(
        config.model,
        channels=dataset.shape[0],
        classes=config.task_info.outputs or len(dataset.classes),
        size=config.dataset.image_size or dataset.shape[1],
        seed=config.seed,
        is_dense=config.task_info.is_dense,
    )
    load_weights(network, config, runs)
    outputs = config.task_info.outputs
    if outputs is not None:
        network = with_second_side(network, dataset.train.labels[:1], outputs, config.seed)
    return dataset, with_spectrograms(network, config.dataset)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send what the run logs, and its warnings, to `path` while it runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _plugin_record(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """Return the digests of the plug-ins of a run that begins now, or goes on."""
    code = plugin_code.current(config.model_dump(mode="json"))
    goes_on = checkpoint.exists(folder.path)
    return plugin_code.record(code, plugin_code.earlier(folder.path, code) if goes_on else {})


def _describe(dataset: Dataset, skipped: dict[str, str]) -> dict[str, Any]:
    """The data of a run as `result.json` has them; skipped: images that were left out, and why."""
    record = {
        "name": dataset.name,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
        "classes": list(dataset.classes),
        "digest": dataset.digest,
        "source": dataset.source,
        "skipped": [told(path) for path in sorted(skipped)],
    }
    for name, one in dataset.streams.items():
        record |= {name: len(one.split), f"{name}_name": one.name, f"{name}_source": one.source}
    if dataset.targets == "regression":
        deviation = dataset.test.labels.double().std(dim=0, correction=0)
        record["target_sd"] = float(deviation.square().mean().sqrt())
    reasons = [skipped[path] for path in sorted(skipped)]
    record |= {"skipped_because": reasons} if reasons else {}
    return record | ({"pixel_range": dataset.scale.describe()} if dataset.scale.is_wide else {})


def _with_keys(config: RunConfig) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "run_key": config.run_key,
        "cell_key": config.cell_key,
        "config": config.model_dump(mode="json"),
    }


def _write_predictions(path: Path, measured: Measurements) -> None:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {**measured.predictions}
    np.savez_compressed(buffer, **arrays)
    atomic_write(path, buffer.getvalue())
