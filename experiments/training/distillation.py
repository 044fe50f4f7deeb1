"""Learning from a teacher: a network that was trained before and answers for the same images.

distillation = Distillation.of(config, dataset, device, runs)       None without `teacher`
criterion = distillation.criterion(labels_loss, clean, batch)       for `Forward`

Hinton et al. 2015 (arXiv:1503.02531): the Kullback-Leibler divergence of softened answers, times
the squared temperature. Beyer et al. 2022 (arXiv:2106.05237): both see the same mixed image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.augmentations.plans.base import Batch
from mixbench.experiments.config.schema import RunConfig, TeacherConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.evaluation.predict import outputs_of
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.tasks.base import Task
from mixbench.experiments.transfer.load import load_teacher

Criterion = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Distillation:
    """A teacher on the device of a training, and how much its answers count."""

    teacher: nn.Module
    config: TeacherConfig

    @classmethod
    def of(
        cls, config: RunConfig, dataset: Dataset, device: torch.device, runs: Path
    ) -> Distillation | None:
        """Return the distillation of a run; None without a teacher.

        runs: the folder of the sweep's runs, where its pretrainings are. UserError where the
        teacher's weights can't be had or don't fit.
        """
        teacher = load_teacher(config, dataset.shape[0], dataset.shape[1], runs)
        if teacher is None or config.teacher is None:
            return None
        channels_last = config.training.channels_last
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        teacher.to(device).to(memory_format=memory_format)
        return cls(teacher, config.teacher)

    @property
    def needs_clean(self) -> bool:
        """Whether the teacher sees the images before they are mixed."""
        return self.config.sees == "clean"

    def criterion(self, label_loss: Criterion, clean: Batch | None, batch: Batch) -> Criterion:
        """Return the loss of this batch, from its targets and the run's logits.

        Args:
            label_loss: That of the task, which gets the share that the teacher leaves.
            clean: The batch before mixing; needed where `needs_clean`.
            batch: The mixed batch.
        """
        soft = self.answers(clean, batch)
        temperature, share = self.config.temperature, self.config.weight

        def loss(targets: Any, logits: Tensor) -> Tensor:
            taught = distillation_loss(logits, soft, temperature)
            if share == 1:
                return taught
            return share * taught + (1 - share) * label_loss(targets, logits)

        return loss

    @torch.no_grad()
    def answers(self, clean: Batch | None, batch: Batch) -> Tensor:
        """Return the teacher's softened probabilities (B, K) of a mixed batch, float32."""
        if not self.needs_clean:
            return self._probabilities(batch.images)
        if clean is None:
            raise ValueError("clean: expected the batch before mixing, got None")
        probabilities = self._probabilities(clean.images)
        classes = probabilities.shape[1]
        return batch.plan.mix_labels(probabilities, classes).dense(classes)

    def _probabilities(self, images: Tensor) -> Tensor:
        logits: Tensor = self.teacher(images)
        return F.softmax(logits.float() / self.config.temperature, dim=1)


def distillation_loss(logits: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """Return T² KL(soft || softmax(logits / T)), the mean over the batch, float32.

    Args:
        logits: (B, K), with gradients.
        soft: (B, K) probabilities at the same temperature.
        temperature: T.
    """
    log_probabilities = F.log_softmax(logits.float() / temperature, dim=1)
    divergence = F.kl_div(log_probabilities, soft, reduction="batchmean")
    return divergence * temperature**2


def measure_agreement(
    distillation: Distillation,
    logits: NDArray[Any] | None,
    task: Task,
    dataset: Dataset,
    beat: Callable[[], None],
    ranks: Ranks = ALONE,
) -> dict[str, float | None]:
    """Compare a run with its teacher on the test set; empty on other ranks than 0.

    Args:
        distillation: With the teacher.
        logits: Those of the run, (N, K), in order; None on other ranks than 0.
        task: Of the run.
        dataset: Its data.
        beat: Called at every batch; raises to end the measuring.
        ranks: Who shares the work.

    Returns:
        `test/agreement`, the share of images for which both name the same class, and
        `teacher/accuracy`.
    """
    batches = task.batches(dataset.test, dataset, beat, ranks)
    answers, labels = outputs_of(distillation.teacher, batches, ranks)
    if logits is None or not ranks.leads:
        return {}
    named = answers.argmax(1)
    return {
        "test/agreement": float(np.mean(named == logits.argmax(1))),
        "teacher/accuracy": float(np.mean(named == labels)),
    }
