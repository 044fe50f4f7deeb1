"""What a task gives a training: how targets are mixed, the loss, and the metrics of a split.

task = task_of(config, dataset, device)
targets = task.mix(plan, targets); loss = task.loss(targets, outputs)
metrics = task.measure(network, dataset, config, beat, ranks).metrics
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.augmentations.forward import unmixed
from mixbench.augmentations.method import Method
from mixbench.augmentations.plans.base import Batch, Plan
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import Moves, normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.split import Split
from mixbench.experiments.design.tasks import TASKS, TaskInfo
from mixbench.experiments.evaluation.after_training import Measurements
from mixbench.experiments.evaluation.predict import Batches, outputs_of
from mixbench.experiments.ranks import ALONE, Ranks

Arrays = dict[str, NDArray[Any]]


class Task(ABC):
    """A task for one training.

    Args:
        info: Its declaration.
        config: Of the run.
        dataset: What is trained on; scales of targets come from its training split alone.
        device: Where batches are.
    """

    def __init__(
        self, info: TaskInfo, config: RunConfig, dataset: Dataset, device: torch.device
    ) -> None:
        self.info = info
        self.config = config
        self.classes = len(dataset.classes)
        self.device = device

    def seen(self, targets: Tensor) -> Tensor | None:
        """Return what a method sees that asks for labels, such as c_mixup; None for nothing."""
        return targets

    def paired(self, method: Method) -> Method:
        """Return the method with partners as the task chooses them; by default its own."""
        return method

    def maps(self, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return what crops and flips of images move too: (B,M,H,W) uint8; None for nothing.

        What comes in from outside of the image is 0.
        """
        return None

    def moved(self, targets: Tensor, moves: Moves) -> Tensor:  # noqa: ARG002
        """Return the targets after crops and flips of the images; `with_maps` comes after it."""
        return targets

    def with_maps(self, targets: Tensor, maps: Tensor) -> Tensor:  # noqa: ARG002
        """Return the targets as the moved `maps` say."""
        return targets

    def masks(self, method: Method, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return the masks (B,H,W) for a method that asks for them; None: those of the images."""
        return None

    def mix(self, plan: Plan, targets: Tensor) -> Any:
        """Return the mixed targets of a batch, as `loss` takes them: `Targets` by default."""
        return plan.mix_labels(targets, self.classes)

    def inputs(self, images: Tensor, targets: Any) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Return what the network takes of a mixed batch: its images, and what else there is."""
        return (images,)

    def unmixed(self, images: Tensor, targets: Tensor) -> Batch:
        """Return a batch as it is, for methods whose loss or bank looks at it."""
        plan = unmixed(images)
        return Batch(images, self.mix(plan, targets), plan)

    @abstractmethod
    def loss(self, targets: Any, outputs: Tensor) -> Tensor:
        """Return the mean loss of a mixed batch, float32.

        Args:
            targets: As `mix` returns them.
            outputs: Of the network.
        """

    @abstractmethod
    def scores(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float | None]:
        """Return the metrics of a split, such as {"accuracy": 0.8}, the headline metric included.

        Args:
            outputs: Of the network, all of a split, float32.
            targets: As the data set has them.
        """

    def score(self, network: nn.Module, batches: Batches, ranks: Ranks = ALONE) -> dict[str, float]:
        """Return what `info.validation` names, measured on a split; empty on other ranks than 0.

        Args:
            network: In evaluation mode afterwards.
            batches: Normalised images and targets; where ranks share the work, this one's.
            ranks: Who shares the work.
        """
        metrics, _ = self.measure_split(network, batches, ranks)
        # Validation can't do without a number: what has none counts as diverged.
        return {
            name: float("nan") if metrics[name] is None else float(metrics[name] or 0)
            for name, _ in self.info.validation
            if metrics
        }

    def measure_split(
        self, network: nn.Module, batches: Batches, ranks: Ranks = ALONE
    ) -> tuple[dict[str, float | None], Arrays]:
        """Return the metrics of a split, and what of its predictions is kept: complete on rank 0.

        Args: as of `score`.
        """
        outputs, targets = outputs_of(network, batches, ranks)
        if not ranks.leads:
            return {}, {}
        return self.scores(outputs, targets), {"outputs": outputs, "targets": targets}

    @torch.inference_mode()
    def measure(
        self,
        network: nn.Module,
        dataset: Dataset,
        beat: Callable[[], None],
        ranks: Ranks = ALONE,
    ) -> Measurements:
        """Measure a trained network: the test set, and the training and validation images.

        Args:
            network: On the data set's device.
            dataset: Three splits.
            beat: Called at every batch; raises to end the measuring.
            ranks: Who shares the work.

        Returns:
            Complete on rank 0, empty on the others.
        """
        network.eval()
        measured, kept = self.measure_split(
            network, self.batches(dataset.test, dataset, beat, ranks), ranks
        )
        metrics = {f"test/{name}": value for name, value in measured.items()}
        for name, split in (("train", dataset.train), ("validation", dataset.validation)):
            scored = self.score(network, self.batches(split, dataset, beat, ranks), ranks)
            metrics |= {f"{name}/{key}": value for key, value in scored.items()}
        return Measurements(metrics, {}, kept)

    @torch.inference_mode()
    def measure_average(
        self,
        network: nn.Module,
        dataset: Dataset,
        beat: Callable[[], None],
        ranks: Ranks,
        name: str,
    ) -> dict[str, float | None]:
        """Measure averaged weights beside the last ones; arguments: `measure`, and their name.

        Returns:
            `NAME/METRIC` of the test set, and `NAME/validation_METRIC` of what tells the best
            epoch; empty on other ranks than 0.
        """
        network.eval()
        measured, _ = self.measure_split(
            network, self.batches(dataset.test, dataset, beat, ranks), ranks
        )
        validation = self.batches(dataset.validation, dataset, beat, ranks)
        scored = self.score(network, validation, ranks)
        if not ranks.leads:
            return {}
        metrics = {f"{name}/{key}": value for key, value in measured.items()}
        first = self.info.validation[0][0]
        return {**metrics, f"{name}/validation_{first}": scored[first]}

    def batches(
        self, split: Split, dataset: Dataset, beat: Callable[[], None], ranks: Ranks
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this rank's batches of a split, normalised, with its targets."""
        channels_last = self.config.training.channels_last
        for raw, targets in split.batches(self.config.evaluation.batch_size, part=ranks.part):
            beat()
            yield normalise(raw, dataset.mean, dataset.std, channels_last=channels_last), targets


def task_of(config: RunConfig, dataset: Dataset, device: torch.device) -> Task:
    """Return the task of a run."""
    info = config.task_info
    kind: type[Task] = importlib.import_module(f"{TASKS}.{info.name}.task").IMPLEMENTATION
    return kind(info, config, dataset, device)
