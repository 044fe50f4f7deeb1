"""What a step learns from images without labels: who answers, how they are mixed, the loss.

unlabelled = Unlabelled.of(config, dataset, learner, ranks, steps)     None without the stream
beside = unlabelled.beside(step, batch)
loss = label_loss + beside.weight * beside.loss(logits)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from mixbench import augmentations
from mixbench.augmentations.plans.base import Batch, Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.targets import Targets
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.streams import UnlabelledConfig
from mixbench.experiments.data.crops import prepare
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.models.loss import class_weights
from mixbench.experiments.ranks import Ranks
from mixbench.experiments.training.learner import Learner
from mixbench.experiments.training.random_streams import stream_seed
from mixbench.experiments.training.unlabelled import losses
from mixbench.experiments.training.unlabelled.batches import StreamBatches

Criterion = Callable[[Any, Tensor], Tensor]
NAME = "unlabelled"
_IGNORED = 255


@dataclass
class Beside:
    """The images without labels of one step.

    Attributes:
        labelled: The labelled batch, as it was or mixed with them.
        images: (U, C, H, W), mixed.
        loss: Their loss, from logits.
        weight: How much it counts beside that of the labelled batch.
        confident: The share of answers that count.
        seen: Their loss in the last pass, detached.
    """

    labelled: Batch
    images: Tensor
    loss: Callable[[Tensor], Tensor]
    weight: float
    confident: Tensor
    seen: Tensor = field(default_factory=lambda: torch.zeros(()))

    def criterion(self, label_loss: Criterion) -> Criterion:
        """Return the loss of a pass with the labelled images first and these after them."""

        def loss(targets: Any, logits: Tensor) -> Tensor:
            count = len(logits) - len(self.images)
            of_these = self.loss(logits[count:])
            self.seen = of_these.detach()
            return label_loss(targets, logits[:count]) + self.weight * of_these

        return loss


class Unlabelled:
    """The images without labels of one training, and its algorithm for them.

    Args:
        stream: The section `streams.unlabelled`, resolved.
        config: Of the run.
        dataset: With the stream.
        learner: The network that is trained, and its average.
        ranks: Who trains together.
        steps: Of the training.
    """

    def __init__(
        self,
        stream: UnlabelledConfig,
        config: RunConfig,
        dataset: Dataset,
        learner: Learner,
        ranks: Ranks,
        steps: int,
    ) -> None:
        self._stream = stream
        self._config = config
        self._dataset = dataset
        self._learner = learner
        self._ranks = ranks
        self._steps = steps
        self._classes = len(dataset.classes)
        self._is_dense = config.task_info.is_dense
        self._mix = augmentations.create(**(stream.augmentation or {"name": "none"}))
        # Maps can't move apart from those of the teacher; ICT mixes what the teacher saw.
        self._same_view = self._is_dense or stream.algorithm == "ict"
        self._weights = self._class_weights() if self._is_dense else None
        per_step = round(stream.ratio * config.training.batch_size)
        split = dataset.streams[NAME].split
        self._batches = StreamBatches(
            NAME, split, per_step, config.seed, ranks.part, config.training.random_crops
        )

    @classmethod
    def of(
        cls, config: RunConfig, dataset: Dataset, learner: Learner, ranks: Ranks, steps: int
    ) -> Unlabelled | None:
        """Return that of a run; None without the stream."""
        stream = config.streams.unlabelled if config.streams else None
        if stream is None:
            return None
        return cls(stream, config, dataset, learner, ranks, steps)

    @torch.no_grad()
    def beside(self, step: int, batch: Batch, share: float) -> Beside:
        """Draw, answer and mix the images of a step.

        Args:
            step: From 0.
            batch: The labelled batch, mixed.
            share: What the whole loss of this rank is multiplied with, so that the mean over ranks
                is that over all labelled images.
        """
        raw = self._batches.at(step)
        own = len(raw) * self._ranks.size / self._batches.per_step
        weight = float(self._stream.weight or 0) * self._ramp(step) * own / share
        if self._stream.algorithm == "mixmatch":
            return self._mixmatch(step, raw, batch, weight)
        weak = self._view(raw, step, "weak")
        answers = self._answers(weak)
        strong = weak if self._same_view else self._view(raw, step, "strong")
        plan = self._plan(strong, step, answers)
        threshold = self._stream.threshold or 0.0
        loss = self._loss(answers, plan, threshold)
        confident = losses.confident_share(answers, threshold)
        return Beside(batch, plan.mix_images(strong), loss, weight, confident)

    def _loss(self, answers: Tensor, plan: Plan, threshold: float) -> Callable[[Tensor], Tensor]:
        algorithm = self._stream.algorithm
        if algorithm == "fixmatch":
            return lambda logits: losses.pseudo_label_loss(
                logits, answers, plan, threshold, self._weights
            )
        if algorithm == "pseudo_labels":
            sure = losses.confident_share(answers, threshold)
            return lambda logits: (
                losses.pseudo_label_loss(logits, answers, plan, 0.0, self._weights) * sure
            )
        mixed = losses.mix_answers(plan, answers)
        if algorithm == "ict":
            return lambda logits: losses.mean_squared_loss(logits, mixed)
        return lambda logits: losses.squared_loss(logits, mixed, threshold, self._weights)

    def _mixmatch(self, step: int, raw: Tensor, batch: Batch, weight: float) -> Beside:
        """Guess labels from two views, then mix labelled and unlabelled images with each other."""
        views = [self._view(raw, step, name) for name in ("first", "second")]
        mean = (self._answers(views[0]) + self._answers(views[1])) / 2
        guessed = losses.sharpen(mean, float(self._stream.temperature or 1))
        count = len(batch.images)
        images = torch.cat([batch.images, *views])
        answers = torch.cat([batch.targets.dense(self._classes), guessed, guessed])
        plan = self._plan(images, step, answers)
        if not isinstance(plan, Blend):
            raise TypeError(f"mixmatch: expected a blend, got {type(plan).__name__}")
        plan = losses.nearer_to_itself(plan)
        mixed, targets = plan.mix_images(images), losses.mix_answers(plan, answers)
        classes = torch.arange(self._classes, device=images.device).expand(count, -1)
        # For sums over what was mixed: partners may be no labelled images, but are others.
        others = torch.arange(count, device=images.device).roll(1)
        own = Blend(plan.keep[:count], others)
        labelled = Batch(mixed[:count], Targets(classes, targets[:count]), own)

        def loss(logits: Tensor) -> Tensor:
            return losses.mean_squared_loss(logits, targets[count:])

        return Beside(labelled, mixed[count:], loss, weight, torch.ones(()))

    def _ramp(self, step: int) -> float:
        """Return how much of the weight counts: linear for MixMatch, else exp(-5 (1 - t)²)."""
        end = float(self._stream.ramp_up or 0) * self._steps
        if step >= end:
            return 1.0
        done = step / end
        return done if self._stream.algorithm == "mixmatch" else math.exp(-5 * (1 - done) ** 2)

    def _view(self, raw: Tensor, step: int, name: str) -> Tensor:
        training, dataset = self._config.training, self._dataset
        return prepare(
            raw,
            dataset.mean,
            dataset.std,
            crop_padding=training.crop_padding or 0,
            flip=bool(training.flip),
            generator=self._generator(step, name),
            channels_last=training.channels_last,
        )

    def _plan(self, images: Tensor, step: int, answers: Tensor) -> Plan:
        return self._mix.sample(
            images.shape,
            device=images.device,
            generator=self._generator(step, "mixing"),
            images=images,
            masks=answers.argmax(1).to(torch.uint8) if self._is_dense else None,
            normalisation=(self._dataset.mean, self._dataset.std),
        )

    def _generator(self, step: int, purpose: str) -> torch.Generator:
        """Return random numbers of this step, purpose and rank alone: nothing to put by."""
        stream = self._ranks.stream(f"{NAME} {purpose} {step}")
        seed = stream_seed(self._config.seed, stream)
        return torch.Generator(self._learner.device).manual_seed(seed)

    def _answers(self, images: Tensor) -> Tensor:
        """Return the teacher's probabilities, float32; nothing of any network changes.

        Batch normalisation takes the statistics of these images: those that an average has kept lag
        behind its weights.
        """
        network, averaging = self._learner.network, self._learner.averaging
        tensors: dict[str, Tensor] = dict(network.named_parameters())
        if self._stream.teacher == "ema" and averaging is not None:
            tensors = averaging.parameters()
        tensors |= {name: buffer.clone() for name, buffer in network.named_buffers()}
        with _only_batch_statistics(network):
            logits: Tensor = functional_call(network, tensors, (images,))
        return F.softmax(logits.float(), dim=1)

    def _class_weights(self) -> Tensor | None:
        """Return how much pixels of each class count, as for labelled ones."""
        pixels = self._dataset.train.labels[:, 0].flatten()
        known = pixels[pixels != _IGNORED].long()
        weights = class_weights(self._config.training, known, self._classes)
        return None if weights is None else weights.to(self._learner.device)


@contextlib.contextmanager
def _only_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Evaluate the network but for batch normalisation, which stays as it is."""
    modes = [(module, module.training) for module in network.modules()]
    for module, mode in modes:
        module.training = mode and isinstance(module, _BatchNorm)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
