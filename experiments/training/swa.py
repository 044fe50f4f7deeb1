"""Stochastic weight averaging: the mean of the weights at the ends of the last epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mixbench.experiments.config.training import TrainingConfig
from mixbench.experiments.transfer.freeze import Freezing


class WeightAverage:
    """torch's AveragedModel of a network, as a diagnostic: the training knows nothing of it.

    After Izmailov et al. 2018 (arXiv:1803.05407), but with the schedule of the training as it is.
    """

    def __init__(self, network: nn.Module, start: float, epochs: int) -> None:
        from torch.optim.swa_utils import AveragedModel

        self._average = AveragedModel(network)
        # Room for rounding: 0.7 of 10 epochs are 7.
        self._first = max(1, math.ceil(start * epochs - 1e-9))

    @classmethod
    def of(cls, network: nn.Module, training: TrainingConfig) -> WeightAverage | None:
        """Return that of a training with `swa`; None for others."""
        return None if training.swa is None else cls(network, training.swa.start, training.epochs)

    def observe(self, network: nn.Module, epoch: int) -> None:
        """Take in the weights at the end of `epoch`, from 1, if it is one of those to average."""
        if epoch >= self._first:
            self._average.update_parameters(network)

    @torch.no_grad()
    def recompute_statistics(self, freezing: Freezing, batches: Iterable[Tensor]) -> None:
        """Give batch normalisation the statistics that it has with the averaged weights.

        Those of layers that are frozen at the end stay. The mean over the batches, without dropout.

        Args:
            freezing: Of the network that is averaged.
            batches: Normalised images (B,C,H,W); those of one image are left out.
        """
        module = self._average.module
        norms = [cast(_BatchNorm, module.get_submodule(each)) for each in freezing.trained_norms()]
        module.eval()
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None
        for images in batches if norms else ():
            if len(images) > 1:
                self._average(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the averaged network, and of how many epochs."""
        count = int(self._average.n_averaged)
        return {"swa": dict(self._average.module.state_dict()), "swa_epochs": count}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._average.module.load_state_dict(state["swa"])
        self._average.n_averaged.fill_(state["swa_epochs"])
