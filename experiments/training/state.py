"""Everything that the rest of a training depends on, as it goes into a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mixbench.augmentations.bank import Bank
from mixbench.experiments.training.epoch_totals import EpochTotals
from mixbench.experiments.training.history import History
from mixbench.experiments.training.learner import Learner
from mixbench.experiments.training.random_streams import RandomStreams
from mixbench.experiments.training.schedules import TrainingSchedules


@dataclass(frozen=True)
class TrainingState:
    """The state of one rank's training. Only rank 0 has a history on disk."""

    learner: Learner
    streams: RandomStreams
    schedules: TrainingSchedules
    history: History
    totals: EpochTotals
    bank: Bank

    def of_rank(self) -> dict[str, Any]:
        """What differs between ranks, for a checkpoint."""
        device = self.learner.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return {
            "generators": self.streams.states_of_rank(),
            "global_generator": torch.get_rng_state(),
            "cuda_generator": cuda,
            "sums": self.totals.state(),
            **({"bank": bank} if (bank := self.bank.state()) else {}),
        }

    def of_all(self) -> dict[str, Any]:
        """What all ranks share, for a checkpoint."""
        return {
            "device": self.learner.device.type,
            **self.learner.state(),
            "history": self.history.state(),
            "accuracies": self.schedules.accuracies,
        }

    def restore(self, state: dict[str, Any], rank: int) -> None:
        """Continue from a checkpoint; the history is left to the rank that writes it."""
        self.learner.restore(state)
        of_rank = state["ranks"][rank]
        self.streams.restore_states_of_rank(of_rank["generators"])
        torch.set_rng_state(of_rank["global_generator"])
        if of_rank["cuda_generator"] is not None:
            torch.cuda.set_rng_state(of_rank["cuda_generator"], self.learner.device)
        self.totals.restore(of_rank["sums"])
        self.bank.restore(of_rank.get("bank", {}), self.learner.device)
        self.streams.order.set_state(state["order"])
        self.schedules.restore(state.get("accuracies", []))
