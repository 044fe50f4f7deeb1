"""The training loop: one configuration, one device, from first weights to last.

Random numbers come in four streams made from the seed (initial weights, data order, crops and
flips, mixing), so that with the same seed every method starts from the same weights and sees the
same images in the same order, however much its mixing draws.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import augmentations
from experiments import checkpoint
from experiments.config import RunConfig, TrainingConfig
from experiments.data.augment import normalise, prepare
from experiments.data.load import Dataset
from experiments.evaluate.calibration import accuracy, nll
from experiments.evaluate.predict import logits_of

log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 30.0


class Beat(Protocol):
    """Says that the work goes on, with the progress where there is any; raises to end the run."""

    def __call__(self, progress: dict[str, Any] | None, *, force: bool = False) -> None: ...


class Diverged(Exception):
    """The loss is no longer a number: the run failed, it has no score."""


def stream_seed(seed: int, stream: str) -> int:
    """A seed for one of a run's random streams: unrelated for neighbouring seeds."""
    return int.from_bytes(hashlib.sha256(f"{stream} {seed}".encode()).digest()[:7], "big")


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """The rate of step `step` (from 0) of `steps`: a rise over `warmup`, then a half cosine to 0.

    "one_cycle" rises from 1/25 of the rate along a half cosine, as in Smith & Topin 2018
    (arXiv:1708.07120); "cosine" rises linearly, where it is given a warm-up.
    """
    rising = (config.warmup or 0.0) * steps
    if step < rising:
        share = (step + 1) / (rising + 1)
        if config.schedule == "one_cycle":
            share = 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * share)) / 2
        return config.learning_rate * share
    done = (step - rising) / max(1.0, steps - rising)
    return config.learning_rate * (1 + math.cos(math.pi * done)) / 2


def train(
    network: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    device: torch.device,
    folder: Path,
    beat: Beat,
) -> dict[str, Any]:
    """Train `network` in place to the last epoch, going on from the folder's checkpoint if any.

    Appends a row per epoch to `metrics.jsonl` and leaves the last state in `checkpoint.pt`.
    `beat` is called at every step with the progress; what it raises ends the training. Returns the
    seconds spent, the images per second and the best validation epoch. Raises Diverged.
    """
    training = config.training
    mix = augmentations.create(**config.augmentation)
    order = torch.Generator().manual_seed(stream_seed(config.seed, "order"))
    crops = torch.Generator(device).manual_seed(stream_seed(config.seed, "crops"))
    mixing = torch.Generator(device).manual_seed(stream_seed(config.seed, "mixing"))
    # Dropout and the like draw from the global generator.
    torch.manual_seed(stream_seed(config.seed, "network"))
    generators = {"order": order, "crops": crops, "mixing": mixing}

    memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
    # Two calls: the types of `Module.to` know device and memory format only apart.
    network.to(device).to(memory_format=memory_format)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=training.learning_rate,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
        fused=True,
    )
    amp = training.amp and device.type == "cuda"
    half = (
        torch.bfloat16
        if amp and torch.cuda.is_bf16_supported(including_emulation=False)
        else torch.float16
    )
    scaler = torch.amp.GradScaler(device.type, enabled=amp and half is torch.float16)

    steps_per_epoch = dataset.train.steps(training.batch_size)
    steps = training.epochs * steps_per_epoch
    history = _History(folder / "metrics.jsonl")
    first = 0
    state = checkpoint.load(folder / "checkpoint.pt")
    if state is not None and not _fits(state, device, history):
        state = None
    if state is not None:
        first = _restore(state, network, optimiser, scaler, generators, history)
        log.info("going on after epoch %d", first)
    else:
        history.begin()

    saved = time.monotonic()
    for epoch in range(first, training.epochs):
        started = time.monotonic()
        loss_sum = torch.zeros((), device=device)
        own_sum = torch.zeros((), device=device)
        seen = 0
        network.train()
        for number, (raw, labels) in enumerate(dataset.train.epoch(training.batch_size, order)):
            step = epoch * steps_per_epoch + number
            rate = learning_rate(step, steps, training)
            for group in optimiser.param_groups:
                group["lr"] = rate

            images = prepare(
                raw,
                dataset.mean,
                dataset.std,
                crop_padding=training.crop_padding or 0,
                flip=bool(training.flip),
                generator=crops,
                channels_last=training.channels_last,
            )
            batch = mix(images, labels, len(dataset.classes), generator=mixing)
            with torch.autocast(device.type, dtype=half, enabled=amp):
                logits = network(batch.images)
            loss = batch.targets.cross_entropy(logits, training.label_smoothing)

            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()

            loss_sum += loss.detach() * len(labels)
            own_sum += _own_weight(batch.plan)
            seen += len(labels)
            beat(_progress(epoch, number, steps_per_epoch, training.epochs, seen, started))

        mean_loss = loss_sum.item() / seen
        spent = time.monotonic() - started
        if not math.isfinite(mean_loss):
            raise Diverged(f"the training loss became {mean_loss} in epoch {epoch + 1}")
        validation = validate(network, dataset, config, beat)
        if not math.isfinite(validation["nll"]):
            raise Diverged(f"the network's outputs are no longer numbers after epoch {epoch + 1}")
        row = {
            "epoch": epoch + 1,
            "step": (epoch + 1) * steps_per_epoch,
            "time": time.time(),
            "train/loss": mean_loss,
            **{f"validation/{name}": value for name, value in validation.items()},
            "learning_rate": rate,
            "mix/own_weight": own_sum.item() / seen,
            "images_per_second": seen / spent,
        }
        beat(None, force=True)  # overtaken since the last beat: write nothing more
        history.add(row, spent, seen)
        log.info(
            "epoch %d/%d: loss %.4f, validation accuracy %.4f, %.0f images/s",
            epoch + 1, training.epochs, mean_loss, validation["accuracy"], seen / spent,
        )  # fmt: skip
        last = epoch + 1 == training.epochs
        if last or time.monotonic() - saved >= CHECKPOINT_SECONDS:
            checkpoint.save(
                folder / "checkpoint.pt",
                _state(epoch + 1, network, optimiser, scaler, generators, history),
            )
            saved = time.monotonic()
    return history.summary()


def validate(
    network: nn.Module, dataset: Dataset, config: RunConfig, beat: Beat
) -> dict[str, float]:
    """accuracy and nll on the validation split."""

    def prepared() -> Iterator[tuple[Tensor, Tensor]]:
        channels_last = config.training.channels_last
        for raw, labels in dataset.validation.batches(config.evaluation.batch_size):
            beat(None)
            yield normalise(raw, dataset.mean, dataset.std, channels_last=channels_last), labels

    logits, labels = logits_of(network, prepared())
    return {"accuracy": accuracy(logits, labels), "nll": nll(logits, labels)}


class _History:
    """`metrics.jsonl`, with its length at the last checkpoint, and the sums over epochs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length = 0
        self.seconds = 0.0
        self.images = 0
        self.best_epoch = 0
        self.best_accuracy = -1.0

    def begin(self) -> None:
        self.path.write_bytes(b"")

    def add(self, row: dict[str, Any], seconds: float, images: int) -> None:
        with self.path.open("ab") as file:
            file.write((json.dumps(row) + "\n").encode())
            self.length = file.tell()
        self.seconds += seconds
        self.images += images
        if row["validation/accuracy"] > self.best_accuracy:
            self.best_epoch, self.best_accuracy = row["epoch"], row["validation/accuracy"]

    def holds(self, length: int) -> bool:
        return self.path.exists() and self.path.stat().st_size >= length

    def restore(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # Epochs that ran after the checkpoint will run again.
        with self.path.open("ab") as file:
            file.truncate(self.length)

    def state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "path"}

    def summary(self) -> dict[str, Any]:
        return {
            "train_seconds": self.seconds,
            "images_per_second": self.images / self.seconds,
            "best_epoch": self.best_epoch,
            "best_validation_accuracy": self.best_accuracy,
        }


def _state(
    epochs: int,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    generators: dict[str, torch.Generator],
    history: _History,
) -> dict[str, Any]:
    return {
        "epochs": epochs,
        "device": next(iter(network.parameters())).device.type,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "generators": {name: generator.get_state() for name, generator in generators.items()},
        "global_generator": torch.get_rng_state(),
        "cuda_generator": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "history": history.state(),
    }


def _fits(state: dict[str, Any], device: torch.device, history: _History) -> bool:
    """Can the training go on from `state` here?  Said in the log when it can't."""
    if state["device"] != device.type:
        # Random numbers of another device are other numbers.
        log.warning("the checkpoint is from %s, this is %s: starting over", state["device"], device)
        return False
    if not history.holds(state["history"]["length"]):
        log.warning("metrics.jsonl is shorter than the checkpoint says: starting over")
        return False
    return True


def _restore(
    state: dict[str, Any],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    generators: dict[str, torch.Generator],
    history: _History,
) -> int:
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    scaler.load_state_dict(state["scaler"])
    for name, generator in generators.items():
        generator.set_state(state["generators"][name])
    torch.set_rng_state(state["global_generator"])
    if state["cuda_generator"] is not None:
        torch.cuda.set_rng_state(state["cuda_generator"])
    history.restore(state["history"])
    return int(state["epochs"])


def _own_weight(plan: augmentations.Plan) -> Tensor:
    """How much of the batch's images is still their own, summed over samples."""
    source, share = plan.sources()
    own = torch.arange(source.shape[0], device=source.device).unsqueeze(1)
    return (share * (source == own)).sum()


def _progress(
    epoch: int, number: int, steps: int, epochs: int, seen: int, started: float
) -> dict[str, Any]:
    return {
        "stage": "training",
        "epoch": epoch + (number + 1) / steps,
        "epochs": epochs,
        "images_per_second": seen / max(1e-9, time.monotonic() - started),
    }
