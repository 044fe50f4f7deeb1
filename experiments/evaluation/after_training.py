"""Measure a network right after its training, as every run does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.split import Split
from mixbench.experiments.evaluation import metrics as scores
from mixbench.experiments.evaluation.base import subset
from mixbench.experiments.evaluation.occlusion import basic
from mixbench.experiments.evaluation.predict import logits_of, score
from mixbench.experiments.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Measurements:
    """What a run measures of itself.

    Attributes:
        metrics: One flat mapping; None if there is no value.
        curves: JSON-like data for figures.
        predictions: What `predictions.npz` keeps of the clean test set; in classification `logits`
            (N,K) and `labels` (N,).
    """

    metrics: dict[str, float | None]
    curves: dict[str, Any]
    predictions: Mapping[str, NDArray[Any]]

    @property
    def logits(self) -> NDArray[np.float32]:
        """Those of a classification."""
        return self.predictions["logits"]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Those of a classification."""
        return self.predictions["labels"]


@torch.inference_mode()
def measure(
    network: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    beat: Callable[[], None],
    ranks: Ranks = ALONE,
) -> Measurements:
    """Measure on the clean training images, the validation, test and occluded test sets.

    Args:
        network: From normalised images (B,C,H,W) to logits (B,K).
        dataset: On the network's device.
        config: Of the run.
        beat: Called at every batch; raises to end the measuring.
        ranks: Who shares the work.

    Returns:
        Complete on rank 0, empty on the others.
    """
    network.eval()
    evaluation = config.evaluation

    def batches(split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        return _batches(split, dataset, config, beat, ranks)

    logits, labels = logits_of(network, batches(dataset.test), ranks)
    metrics: dict[str, float | None] = {}
    curves: dict[str, Any] = {}
    if ranks.leads:
        clean, curves["reliability"] = scores.measure(logits, labels, evaluation.ece_bins)
        metrics |= {f"test/{name}": value for name, value in clean.items()}
    for split_name, split in (("train", dataset.train), ("validation", dataset.validation)):
        scored = score(network, batches(split), ranks)
        metrics |= {f"{split_name}/{name}": value for name, value in scored.items()}

    hidden = evaluation.occlusion
    if hidden.shapes and hidden.fractions:
        occluded = subset(dataset.test, hidden.images, hidden.seed)
        occlusion_metrics, curves["occlusion"] = basic.measure(
            network,
            batches(occluded),
            shapes=hidden.shapes,
            fractions=hidden.fractions,
            count=len(occluded),
            seed=hidden.seed,
            batch_size=evaluation.batch_size,
            colours=(dataset.mean, dataset.std),
            ranks=ranks,
        )
        metrics |= {f"occlusion/{name}": value for name, value in occlusion_metrics.items()}
    kept: dict[str, NDArray[Any]] = {
        "logits": logits.astype(np.float32),
        "labels": labels.astype(np.int64),
    }
    return Measurements(metrics, curves, kept)


@torch.inference_mode()
def measure_average(
    network: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    beat: Callable[[], None],
    ranks: Ranks = ALONE,
    name: str = "ema",
) -> dict[str, float | None]:
    """Measure averaged weights beside the last ones; arguments: `measure`, and the average's name.

    Returns:
        `NAME/accuracy`, `NAME/nll`, ... of the test set and `NAME/validation_accuracy`; empty on
        other ranks than 0.
    """
    network.eval()
    logits, labels = logits_of(network, _batches(dataset.test, dataset, config, beat, ranks), ranks)
    validation = score(network, _batches(dataset.validation, dataset, config, beat, ranks), ranks)
    if not ranks.leads:
        return {}
    clean, _ = scores.measure(logits, labels, config.evaluation.ece_bins)
    metrics: dict[str, float | None] = {f"{name}/{key}": value for key, value in clean.items()}
    return metrics | {f"{name}/validation_accuracy": validation["accuracy"]}


def _batches(
    split: Split, dataset: Dataset, config: RunConfig, beat: Callable[[], None], ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this rank's batches of a split, normalised."""
    channels_last = config.training.channels_last
    for raw, labels in split.batches(config.evaluation.batch_size, part=ranks.part):
        beat()
        yield normalise(raw, dataset.mean, dataset.std, channels_last=channels_last), labels
