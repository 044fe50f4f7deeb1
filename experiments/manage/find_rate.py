"""Find a learning rate for a run: its data and network through a range test, here and now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.staging.methods import resolve_method
from mixbench.experiments.store.sweep_folder import root

if TYPE_CHECKING:
    from mixbench.experiments.training.range_test import RangeTest


def find_rate(
    config: RunConfig,
    device: str,
    sweep: str,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    threads: int | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> RangeTest:
    """Return the range test of `config`, without its mixing.

    device: "cpu" or "cuda". sweep: its name, for weights of its own pretraining. seconds: about how
    long it may take. threads: of the CPU; None leaves them as they are. UserError for data or
    weights that can't be had.
    """
    import torch

    from mixbench.experiments.training import range_test
    from mixbench.experiments.worker.execute import load_run

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        config = without_mixing(config)
        at = torch.device(device)
        dataset, network = load_run(config, at, root() / sweep / "runs")
        return range_test.range_test(
            network,
            dataset,
            config,
            at,
            steps=steps or range_test.STEPS,
            seconds=seconds,
            asked_to_stop=asked_to_stop,
        )
    finally:
        torch.set_num_threads(before)


def without_mixing(config: RunConfig) -> RunConfig:
    """Return the run with augmentation none and no staging."""
    return config.model_copy(update={"augmentation": resolve_method("none"), "staging": None})
