"""Time training steps here, for runs whose epochs nobody has measured."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.streams import images_beside
from mixbench.experiments.manage.estimate import Cost, Where, device_text, kind
from mixbench.experiments.staging.methods import passes_of

if TYPE_CHECKING:
    import torch

FEW_IMAGES = 8
LONG_STEP = 4.0
"""A step that takes longer is timed with a few images, and multiplied."""


def timed(configs: Iterable[RunConfig], where: Where) -> dict[str, Cost]:
    """Return kind -> cost, from a few training steps of each kind timed here and now.

    On random pixels, so the data need not be there; the data set's catalogued size gives the
    steps. Start-up and the mixing itself are not in it, what a method asks of the network is. What
    is unfrozen on the way counts as trained from the beginning, and features count as cached where
    they can be.
    """
    configs = list(configs)
    if not configs:
        return {}
    import torch

    torch.set_num_threads(where.threads or 1)
    device = torch.device("cuda" if where.on_gpu else "cpu")
    here = device_text(where.device or "this machine", None if where.on_gpu else where.threads)
    took: dict[Any, tuple[float, float]] = {}
    costs = {}
    for config in configs:
        values = config.model_dump(mode="json")
        name = kind(values)
        if name in costs:
            continue
        training = config.training
        frozen = _always_frozen(config)
        dataset = config.dataset.model_copy(update={"split_seed": 0})
        optimiser = training.optimiser, training.sam_base
        alike = (config.model, dataset, training.batch_size, optimiser, frozen)
        if alike not in took:
            took[alike] = _time(config, device)
        step, forward = took[alike]
        beside = images_beside(values.get("streams"))
        step += beside * (step + forward * training.batch_size)
        # What a method asks of the network.
        step += passes_of(values) * forward * training.batch_size
        train, validation, test = _sizes(config)
        hidden = config.evaluation.occlusion
        occluded = (hidden.images or test) * (1 + 2 * len(hidden.shapes) * len(hidden.fractions))
        costs[name] = Cost(
            epoch=-(-train // training.batch_size) * step + validation * forward,
            rest=(train + test + occluded) * forward,
            source=f"a few training steps timed now on {here}, start-up not counted",
        )
    return costs


def _time(config: RunConfig, device: Any) -> tuple[float, float]:
    """Return the seconds of a training step, and of an image in a forward pass."""
    import torch

    from mixbench.experiments.config import datasets
    from mixbench.experiments.config.transfer import TransferConfig
    from mixbench.experiments.models.build import build
    from mixbench.experiments.training.optimiser import optimiser_for
    from mixbench.experiments.training.sharpness import Sharpness
    from mixbench.experiments.transfer.freeze import Freezing
    from mixbench.experiments.transfer.layers import Layers

    facts = datasets.info(config.dataset.name)
    height, width = config.dataset.sides
    network = build(
        config.model,
        channels=facts.channels,
        classes=config.task_info.outputs or config.dataset.classes,
        size=config.dataset.image_size or facts.size,
        seed=0,
        is_dense=config.task_info.is_dense,
    )
    network.to(device).to(memory_format=torch.channels_last)
    frozen = _always_frozen(config)
    layers = Layers.of(network, config.model.name)
    freezing = Freezing(network, layers, None if frozen is None else TransferConfig(freeze=frozen))
    freezing.train()
    optimiser = optimiser_for(freezing.parameter_groups(), config.training)
    sharpness = Sharpness.of(network, config.training, device)
    # Of pairs of images both are encoded.
    encoded = config.training.batch_size * (2 if facts.second == "image" else 1)
    whole = torch.randn(encoded, facts.channels, height, width, device=device)
    whole = whole.to(memory_format=torch.channels_last)
    of_each = (height, width) if config.task_info.is_dense else ()
    has_labels = config.task_info.answers != "boxes"
    labels = torch.zeros(len(whole), *of_each, dtype=torch.int64, device=device)

    def step(images: torch.Tensor) -> None:
        def backward() -> torch.Tensor:
            outputs = network(images)
            loss = (
                torch.nn.functional.cross_entropy(outputs, labels[: len(images)])
                if has_labels
                else outputs.square().mean()
            )
            torch.autograd.backward(loss)
            return loss

        optimiser.zero_grad(set_to_none=True)
        backward() if sharpness is None else sharpness.gradients(backward)
        optimiser.step()

    def forward(images: torch.Tensor) -> None:
        with torch.inference_mode():
            network(images)

    some = whole[:FEW_IMAGES]
    times = len(whole) / len(some)
    if _best_of(lambda: step(some), 1, device) * times > LONG_STEP:
        # On a CPU a large network takes minutes for a batch: too long for `mixbench plan`.
        return (
            _best_of(lambda: step(some), 1, device) * times,
            _best_of(lambda: forward(some), 1, device) / len(some),
        )
    return (
        _best_of(lambda: step(whole), 3, device),
        _best_of(lambda: forward(whole), 3, device) / len(whole),
    )


def _always_frozen(config: RunConfig) -> int | str | None:
    """Return the layers that are frozen from the first step to the last."""
    transfer = config.transfer
    return None if transfer is None or transfer.unfreeze is not None else transfer.freeze


def _best_of(action: Any, times: int, device: Any) -> float:
    import torch

    best = float("inf")
    for _ in range(times + 1):
        started = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


def _sizes(config: RunConfig) -> tuple[int, int, int]:
    """Return about how many images train, validate and test."""
    from mixbench.experiments.config import datasets

    facts = datasets.with_folds(config.dataset.name, config.dataset.folds)
    available = facts.train or 10_000
    taken = config.dataset.train_size or round(available * (config.dataset.train_fraction or 1.0))
    share = facts.validation_share(
        config.dataset.validation_fraction, config.dataset.validation_size
    )
    taken = min(taken, available)
    train = round(taken * (1 - share))
    validation = taken - train if facts.validation is None else facts.validation
    return max(1, train), validation, facts.test or 2_000
