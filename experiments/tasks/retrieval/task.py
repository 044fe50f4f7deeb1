"""Retrieval: two encoders learn which pairs of a batch belong together (InfoNCE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.targets import Targets
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.design.tasks import TaskInfo
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.predict import Batches
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.tasks.base import Arrays, Task
from mixbench.experiments.tasks.retrieval.scores import recalls, same_pairs


@dataclass(frozen=True)
class Pairs:
    """What a mixed batch of images belongs to.

    Attributes:
        second: The other side as its encoder takes it: images, or features of texts (B,D).
        targets: Which of them belong to each image, with their weights.
    """

    second: Tensor
    targets: Targets


class Retrieval(Task):
    """Targets are the other side of pairs: images (B,C,H,W) uint8, or counts of texts (B,D)."""

    def __init__(
        self, info: TaskInfo, config: RunConfig, dataset: Dataset, device: torch.device
    ) -> None:
        super().__init__(info, config, dataset, device)
        others = dataset.train.labels
        self._has_texts = others.dim() == 2
        if not self._has_texts:
            mean, std = statistics(others)
            self._mean, self._std = mean.to(device), std.to(device)
        given = None if config.task is None else config.task.mixing
        self._mixing = given or next(iter(info.mixings))

    def seen(self, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        return None

    def inputs(self, images: Tensor, targets: Any) -> tuple[Tensor, ...]:
        return images, targets.second

    def second(self, targets: Tensor) -> Tensor:
        """Return the other side as its encoder takes it, not mixed."""
        if self._has_texts:
            return F.normalize(targets.float(), dim=1)
        channels_last = self.config.training.channels_last
        return normalise(targets, self._mean, self._std, channels_last=channels_last)

    def mix(self, plan: Plan, targets: Tensor) -> Pairs:
        """Return the other side, mixed or not, and which of it belongs to each image.

        With `both`, images are mixed as the images and features of texts by their weights, and
        each mixed image belongs to what was mixed in the same way.
        """
        own = torch.arange(len(targets), device=targets.device)
        itself = Targets(own[:, None], torch.ones(len(own), 1, device=own.device))
        if self._mixing == "images":
            return Pairs(self.second(targets), plan.mix_labels(own, len(own)))
        if self._mixing == "mixgen":
            return Pairs(self.second(_one_after_another(plan, targets)), itself)
        second = self.second(targets)
        mixed = plan.mix_features(second) if self._has_texts else plan.mix_images(second)
        return Pairs(mixed, itself)

    def loss(self, targets: Pairs, outputs: Tensor) -> Tensor:
        """Return the mean of both ways over the pairs of a batch (van den Oord et al. 2018).

        Of an image that belongs to several, the sum of their losses by their weights.
        """
        similar = outputs[:, 0].float() @ outputs[:, 1].float().T
        weights = targets.targets.dense(len(similar))
        both = F.log_softmax(similar, dim=1) + F.log_softmax(similar, dim=0)
        return -(weights * both).sum() / (2 * len(similar))

    def scores(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float | None]:
        return recalls(torch.from_numpy(outputs), same_pairs(torch.from_numpy(targets)))

    @torch.inference_mode()
    def measure_split(
        self, network: nn.Module, batches: Batches, ranks: Ranks = ALONE
    ) -> tuple[dict[str, float | None], Arrays]:
        network.eval()
        here = [
            (network(images, self.second(targets)).float().cpu(), targets.cpu())
            if len(targets)
            else None
            for images, targets in batches
        ]
        every = [one for one in ranks.interleave(here) if one is not None]
        if not ranks.leads:
            return {}, {}
        if not every:
            raise UserError("no image of the split could be read")
        outputs, targets = (torch.cat(part) for part in zip(*every, strict=True))
        same = same_pairs(targets)
        kept = {"embeddings": outputs.numpy(), "pairs": same.numpy()}
        return recalls(outputs, same), kept


def _one_after_another(plan: Plan, counts: Tensor) -> Tensor:
    """Return the counts of the texts of all images that are seen in each, one after the other.

    MixGen (Hao et al. 2023, arXiv:2206.08358); the same text comes once.
    """
    index, shares = plan.sources()
    own = torch.arange(len(counts), device=counts.device)
    belongs = torch.zeros(len(counts), len(counts), device=counts.device)
    belongs.index_put_(
        (own[:, None].expand_as(index), index), (shares > 0).float(), accumulate=True
    )
    return belongs.clamp(max=1) @ counts.float()


IMPLEMENTATION = Retrieval
