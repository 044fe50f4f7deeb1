"""The training loop on real digits: its schedule, its random streams, and going on exactly."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler

from mixbench import augmentations
from mixbench.augmentations import Targets
from mixbench.experiments.config import resolve, schema
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.training import TrainingConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.data.split import Split
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.after_training import measure
from mixbench.experiments.models.build import build
from mixbench.experiments.models.loss import Loss
from mixbench.experiments.signals import Stopped
from mixbench.experiments.store import checkpoint
from mixbench.experiments.training import checkpoints, inputs, loop
from mixbench.experiments.training.control import Beat
from mixbench.experiments.training.random_streams import stream_seed
from mixbench.experiments.training.schedules import learning_rate
from tests.support import running


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with running.one_thread():
        yield


def configured(augmentation: Any = "none", seed: int = 0, **training_section: Any) -> RunConfig:
    return resolve.parse(
        {
            "dataset": {"name": "digits", "train_size": 200, "image_size": 12},
            "model": {"name": "small_cnn", "width": 4},
            "augmentation": augmentation,
            "training": {"epochs": 4, "batch_size": 32, "learning_rate": 0.1, **training_section},
            "evaluation": {"occlusion": {"images": 50, "fractions": [0.5]}},
            "seed": seed,
        }
    )


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(configured().dataset)


def network_of(made: RunConfig) -> nn.Module:
    return build(made.model, channels=1, classes=10, size=12, seed=made.seed)


def trained(
    folder: Path,
    dataset: Dataset,
    made: RunConfig,
    network: nn.Module | None = None,
    beat: Beat = lambda *_, **__: None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    network = network or network_of(made)
    summary = loop.train(network, dataset, made, torch.device("cpu"), folder, beat)
    return {name: value.clone() for name, value in network.state_dict().items()}, summary


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("time", "images_per_second")}
        for line in lines
    ]


# The schedule.


def test_one_cycle_by_hand() -> None:
    made = TrainingConfig(learning_rate=2.0, schedule="one_cycle", warmup=0.25)
    rates = [learning_rate(step, 8, made) for step in range(8)]
    # Two rising steps at 1/3 and 2/3 of a half cosine from 1/25 to 1, then a half cosine to 0.
    assert rates[:3] == pytest.approx([2 * 0.28, 2 * 0.76, 2.0])
    assert rates[5] == pytest.approx(1.0)
    assert rates[7] == pytest.approx(2 * (1 + math.cos(math.pi * 5 / 6)) / 2)


def test_cosine_by_hand() -> None:
    made = TrainingConfig(learning_rate=0.3, schedule="cosine", warmup=0.0)
    assert learning_rate(0, 4, made) == 0.3
    assert learning_rate(2, 4, made) == pytest.approx(0.15)
    made = TrainingConfig(learning_rate=0.3, schedule="cosine", warmup=0.5)
    rates = [learning_rate(step, 4, made) for step in range(4)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.15])


@given(
    steps=st.integers(1, 2000),
    warmup=st.floats(0, 0.9),
    rate=st.floats(1e-4, 10),
    schedule=st.sampled_from(["one_cycle", "cosine"]),
)
def test_the_rate_rises_then_falls(steps: int, warmup: float, rate: float, schedule: str) -> None:
    made = TrainingConfig(learning_rate=rate, schedule=schedule, warmup=warmup)
    rates = [learning_rate(step, steps, made) for step in range(steps)]
    top = rates.index(max(rates))
    assert abs(top - warmup * steps) <= 1
    assert all(a < b for a, b in itertools.pairwise(rates[: top + 1]))
    assert all(a > b for a, b in itertools.pairwise(rates[top:]))
    assert all(0 < value <= rate for value in rates)


@given(steps=st.integers(200, 5000), rate=st.floats(1e-3, 10))
def test_one_cycle_from_a_25th_to_the_rate_to_nothing(steps: int, rate: float) -> None:
    made = TrainingConfig(learning_rate=rate, warmup=0.25)
    rates = [learning_rate(step, steps, made) for step in range(steps)]
    assert rates[0] == pytest.approx(rate / 25, rel=0.05)
    assert max(rates) == pytest.approx(rate, rel=1e-3)
    assert rates[-1] < rate / 1000


def test_the_rate_of_the_schedule_is_the_optimisers(tmp_path: Path, digits: Dataset) -> None:
    made = configured()
    trained(tmp_path, digits, made)
    steps = digits.train.steps(32)
    assert len(digits.train) == 180 and steps == 6
    for epoch, row in enumerate(rows(tmp_path)):
        last = learning_rate((epoch + 1) * steps - 1, 4 * steps, made.training)
        assert row["learning_rate"] == last
        assert (row["epoch"], row["step"]) == (epoch + 1, (epoch + 1) * steps)


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_one_step_is_plain_sgd(tmp_path: Path, digits: Dataset, loss: str) -> None:
    # Nothing but a smoothed label itself is above the threshold.
    own = {"bce": {"loss": "bce", "bce_threshold": 0.5}, "ce": {}}[loss]
    made = configured(epochs=1, batch_size=500, weight_decay=0.01, label_smoothing=0.1, **own)
    after, _ = trained(tmp_path, digits, made)
    network = network_of(made)
    images = normalise(digits.train.images, digits.mean, digits.std)  # type: ignore[attr-defined]
    logits, labels = network(images), digits.train.labels
    if loss == "ce":
        value = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    else:
        present = nn.functional.one_hot(labels, 10).float()
        value = nn.functional.binary_cross_entropy_with_logits(logits, present)
    value.backward()
    rate = learning_rate(0, 1, made.training)
    for name, weight in network.named_parameters():
        assert weight.grad is not None
        gradient = weight.grad + 0.01 * weight.detach()
        # Nesterov's first step: the gradient and 0.9 of it.
        expected = weight.detach() - rate * 1.9 * gradient
        assert torch.allclose(after[name], expected, atol=1e-5), name
    assert rows(tmp_path)[0]["train/loss"] == pytest.approx(value.item(), abs=1e-5)


def test_manifold_mixup_mixes_at_its_layer(tmp_path: Path, digits: Dataset) -> None:
    """One step by hand: the features behind the second convolution are mixed, and the labels."""
    made = configured(
        {"name": "manifold_mixup", "depths": [2], "pairing": "roll", "per_sample": True},
        epochs=1,
        batch_size=500,
        weight_decay=0,
    )
    recorder = Recorder(digits.train)
    after, _ = trained(tmp_path, dataclasses.replace(digits, train=recorder), made)
    network: Any = network_of(made)
    ((raw, labels),) = recorder.given
    images = normalise(raw, digits.mean, digits.std)
    mixing = torch.Generator().manual_seed(stream_seed(0, "mixing"))
    plan: Any = augmentations.create(**made.augmentation).sample(images.shape, generator=mixing)
    keep = plan.plan.keep
    features = network.features[:7](images)
    mixed = keep * features + (1 - keep) * features.roll(-1, 0)
    logits = network.classifier(network.features[7:](mixed).flatten(1))
    share = keep.flatten()
    losses = [
        nn.functional.cross_entropy(logits, who, reduction="none")
        for who in (labels, labels.roll(-1))
    ]
    loss = (share * losses[0] + (1 - share) * losses[1]).mean()
    loss.backward()
    rate = learning_rate(0, 1, made.training)
    for name, value in network.named_parameters():
        assert value.grad is not None
        expected = value.detach() - rate * 1.9 * value.grad
        assert torch.allclose(after[name], expected, atol=1e-5), name
    row = rows(tmp_path)[0]
    assert row["train/loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert row["mix/own_weight"] == pytest.approx(share.mean().item(), abs=1e-6)


def test_a_depth_that_the_network_has_not_is_said_before_the_first_step(
    tmp_path: Path, digits: Dataset
) -> None:
    deep = {"name": "manifold_mixup", "depths": [0, 5]}
    with pytest.raises(UserError, match="mixes down to layer 5, expected at most 3, the layers of"):
        configured(deep)
    # How many layers a network of timm has is known when it is built.
    resnet = {"model": {"name": "timm/resnet10t"}, "augmentation": deep}
    made = resolve.parse({**configured().model_dump(exclude={"model", "augmentation"}), **resnet})
    with pytest.raises(UserError, match="augmentation: timm/resnet10t: depth 5: expected at most"):
        trained(tmp_path, digits, made)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_stages_of_our_networks_exist() -> None:
    from mixbench.augmentations.integrations.hooks import checked_layers
    from mixbench.experiments.config.models import our_networks

    for name, model in our_networks().items():
        if name == "ssdlite":
            # torchvision's has one width, and no stages are told of it.
            assert not model.stages
            continue
        made = schema.ModelConfig(name=name, width=2)
        network = build(made, channels=1, classes=10, size=28, seed=0)
        assert len(checked_layers(network, 3, model.stages)) == len(model.stages) >= 3


# The random streams.


def test_streams_are_seeds_of_their_own() -> None:
    streams = ("order", "crops", "mixing", "network")
    seeds = {stream_seed(seed, name) for seed in range(500) for name in streams}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    draws = torch.stack(
        [
            torch.rand(100, generator=torch.Generator().manual_seed(stream_seed(7, name)))
            for name in streams
        ]
    )
    apart = draws.corrcoef() - torch.eye(4)
    assert apart.abs().max() < 0.35


class Recorder:
    """A split that remembers what it gave out."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.given: list[tuple[Tensor, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.split, name)

    def __len__(self) -> int:
        return len(self.split)

    def epoch(self, *arguments: Any, **more: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.split.epoch(*arguments, **more):
            self.given.append(batch)
            yield batch


def remembering(first: dict[str, Tensor]) -> Any:
    """A hook that keeps the weights of the first forward pass."""

    def hook(module: nn.Module, _: Any) -> None:
        if not first:
            first.update({name: value.clone() for name, value in module.state_dict().items()})

    return hook


METHODS: tuple[Any, ...] = (
    "none",
    "mixup",
    {"name": "cutmix", "per_sample": True},
    "ricap",
    {"name": "fmix", "per_sample": True},
    {"name": "random_erasing", "prob": 0.5},
)


def test_every_method_starts_alike_and_sees_the_same(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for number, method in enumerate((*METHODS, "none")):
        made = configured(
            method, seed=3 if number < len(METHODS) else 4, epochs=2, crop_padding=2, flip=True
        )
        recorder = Recorder(digits.train)
        network = network_of(made)
        first: dict[str, Tensor] = {}
        network.register_forward_pre_hook(remembering(first))
        prepared: list[Tensor] = []
        with monkeypatch.context() as patch:

            def spy(*arguments: Any, out: Any = prepared, of: Any = inputs.Pixels._prepare) -> Any:
                found = of(*arguments)
                out.append(found[0])
                return found

            patch.setattr(inputs.Pixels, "_prepare", spy)
            dataset = dataclasses.replace(digits, train=recorder)
            final, _ = trained(tmp_path / str(number), dataset, made, network)
        seen.append((first, recorder.given, prepared, final))
    first, given, prepared, final = seen[0]
    assert len(given) == len(prepared) == 12
    for other in seen[1:-1]:
        assert same(first, other[0])
        for (images, labels), (images_too, labels_too) in zip(given, other[1], strict=True):
            assert torch.equal(images, images_too) and torch.equal(labels, labels_too)
        assert all(torch.equal(a, b) for a, b in zip(prepared, other[2], strict=True))
        assert not same(final, other[3])
    other = seen[-1]
    assert not same(first, other[0])
    assert not torch.equal(given[0][1], other[1][0][1])


def test_an_epoch_is_another_order_than_the_last(tmp_path: Path, digits: Dataset) -> None:
    recorder = Recorder(digits.train)
    trained(tmp_path, dataclasses.replace(digits, train=recorder), configured(epochs=2))
    labels = [torch.cat([y for _, y in recorder.given[part : part + 6]]) for part in (0, 6)]
    assert not torch.equal(labels[0], labels[1])
    assert torch.equal(labels[0].sort().values, labels[1].sort().values)


def test_a_seed_gives_the_same_network(tmp_path: Path, digits: Dataset) -> None:
    made = configured("cutmix", crop_padding=1)
    torch.manual_seed(1)
    one, _ = trained(tmp_path / "one", digits, made)
    torch.manual_seed(2)
    again, _ = trained(tmp_path / "again", digits, made)
    other, _ = trained(tmp_path / "other", digits, configured("cutmix", seed=1, crop_padding=1))
    assert same(one, again) and not same(one, other)
    assert rows(tmp_path / "one") == rows(tmp_path / "again") != rows(tmp_path / "other")


# Uneven classes.


def uneven(dataset: Dataset) -> Dataset:
    """Of most classes only a few images train."""
    labels = dataset.train.labels
    chosen = [i for i, label in enumerate(labels.tolist()) if label < 2 or i % 4 == 0]
    return dataclasses.replace(dataset, train=dataset.train.subset(torch.tensor(chosen)))


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_class_weights_are_of_the_training_images(digits: Dataset, loss: str) -> None:
    labels = uneven(digits).train.labels
    logits = torch.randn(len(labels), 10, generator=torch.Generator().manual_seed(0))
    by_library = torch.tensor(
        compute_class_weight("balanced", classes=np.arange(10), y=labels.numpy())
    ).float()
    function = {
        "ce": nn.functional.cross_entropy,
        "bce": lambda logits, labels, reduction: nn.functional.binary_cross_entropy_with_logits(
            logits, nn.functional.one_hot(labels, 10).float(), reduction=reduction
        ).mean(dim=1),
    }[loss]
    expected = (function(logits, labels, reduction="none") * by_library[labels]).mean()
    for weights in ("balanced", by_library.tolist(), (3 * by_library).tolist()):
        made = configured(loss=loss, class_weights=weights).training
        targets = Targets(labels[:, None], torch.ones(len(labels), 1))
        found = Loss.of(made, labels, 10, torch.device("cpu"))(targets, logits)
        torch.testing.assert_close(found, expected)


def test_the_balanced_sampler_is_torchs(tmp_path: Path, digits: Dataset) -> None:
    dataset = uneven(digits)
    labels = dataset.train.labels
    recorder = Recorder(dataset.train)
    made = configured(epochs=3, sampler="balanced", class_weights=[1.0] * 9 + [2.0], ema=0.5)
    trained(tmp_path, dataclasses.replace(dataset, train=recorder), made)
    generator = torch.Generator().manual_seed(stream_seed(0, "order"))
    weights = (1 / labels.bincount().double())[labels]
    sampler = WeightedRandomSampler(weights, len(labels), generator=generator)  # type: ignore[arg-type]
    expected = [labels[list(sampler)] for _ in range(3)]
    given = torch.cat([batch[1] for batch in recorder.given])
    steps = dataset.train.steps(32) * 32
    assert torch.equal(given, torch.cat([each[:steps] for each in expected]))
    assert given.bincount().min() > 0.5 * given.bincount().float().mean()


# The average of the weights.


@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_is_that_of_the_steps_weights(
    tmp_path: Path, digits: Dataset, warmup: bool
) -> None:
    plain, _ = trained(tmp_path / "plain", digits, configured("mixup", epochs=2))
    made = configured("mixup", epochs=2, ema={"decay": 0.6, "warmup": warmup})
    network = network_of(made)
    expected: dict[str, Tensor] = {}
    step = 0

    def beat(progress: dict[str, Any] | None, **_: Any) -> None:
        nonlocal step
        if progress is None or progress["step"] == step:
            return
        step = progress["step"]
        # timm counts from the second update on; the first one is the average.
        decay = min(0.6, 1 - step ** (-2 / 3)) if warmup else 0.6 * (step > 1)
        for name, value in network.state_dict().items():
            if value.is_floating_point() and step > 1:
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value.clone()

    average, _ = trained(tmp_path / "run", digits, made, network, beat)
    for name, value in expected.items():
        torch.testing.assert_close(average[name], value)
    # It changes nothing in the training, and is what is validated.
    stored = next(checkpoint.load(tmp_path / "run"))
    assert same(stored["network"], plain) and same(stored["ema"], average)
    found = measure(network, digits, made, lambda: None).metrics
    row, of_plain = rows(tmp_path / "run")[-1], rows(tmp_path / "plain")[-1]
    assert row["validation/nll"] == found["validation/nll"] != of_plain["validation/nll"]
    assert row["train/loss"] == of_plain["train/loss"]


@pytest.mark.parametrize(
    "recipe",
    [
        {"ema": 0.7, "sampler": "balanced"},
        {"optimiser": "lamb", "swa": 0.4, "batch_size": 64},
        {"optimiser": "sam", "sam_base": "adamw", "repeated_augmentation": 2, "crop": "resized"},
    ],
    ids=["average", "lamb", "sam"],
)
def test_going_on_with_a_recipe_is_exact(
    tmp_path: Path, digits: Dataset, eager: None, recipe: dict[str, Any]
) -> None:
    made = configured("cutmix", epochs=2, **recipe)
    whole, _ = trained(tmp_path / "whole", digits, made, dropping(0))
    for number, stop in enumerate((0.3, 0.99, 1.5)):
        network = dropping(0 if number == 0 else 9)
        with pytest.raises(Killed):
            trained(tmp_path / "halting", digits, made, network, stop_at(stop))
    again, _ = trained(tmp_path / "halting", digits, made, dropping(9))
    assert same(again, whole) and rows(tmp_path / "halting") == rows(tmp_path / "whole")
    ends = [next(checkpoint.load(tmp_path / name)) for name in ("whole", "halting")]
    assert ("swa" in recipe) == ("swa" in ends[0])
    if "swa" in recipe:
        assert same(ends[1]["swa"], ends[0]["swa"]) and ends[0]["swa_epochs"] == 2
        assert not same(ends[0]["network"], ends[0]["swa"])


# Going on.


class Dropping(nn.Module):
    """A network whose own draws matter."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(144, 24),
            nn.BatchNorm1d(24),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(24, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def dropping(seed: int) -> Dropping:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Dropping()


class Killed(BaseException):
    pass


def stop_at(epoch: float) -> Beat:
    def beat(progress: dict[str, Any] | None, *, force: bool = False) -> None:
        if progress and progress["epoch"] > epoch:
            raise Killed

    return beat


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, digits: Dataset
) -> tuple[dict[str, Tensor], list[dict[str, Any]], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole")
    weights, summary = trained(folder, digits, GOING_ON, dropping(0))
    return weights, rows(folder), summary


GOING_ON = configured({"name": "cutmix", "per_sample": True}, epochs=6, crop_padding=2, flip=True)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint before every step."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SHARE", 1e9)


@pytest.mark.parametrize(
    "stops",
    # In the first step, within epochs, at their ends, and again and again.
    [
        [0.0],
        [0.5],
        [3.4],
        [2.99],
        [3.0],
        [1.0, 3.01, 3.5, 5.9],
        [n / 6 - 0.01 for n in range(1, 37)],
    ],
)
def test_going_on_is_exact(
    tmp_path: Path,
    digits: Dataset,
    uninterrupted: Any,
    stops: list[float],
    eager: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    for number, stop in enumerate(stops):
        with pytest.raises(Killed):
            trained(tmp_path, digits, GOING_ON, dropping(0 if number == 0 else 9), stop_at(stop))
        torch.manual_seed(number)
    # Weights, optimiser, generators: all of it comes from the checkpoint.
    weights, summary = trained(tmp_path, digits, GOING_ON, dropping(9))
    whole_weights, whole_rows, whole_summary = uninterrupted
    assert same(weights, whole_weights)
    assert rows(tmp_path) == whole_rows and len(whole_rows) == 6
    for name in ("best_epoch", "best_validation_accuracy"):
        assert summary[name] == whole_summary[name]
    # The step in which it was killed was not in the checkpoint.
    assert f"going on from step {int(stops[-1] * 6 + 1e-6)}" in caplog.text


class Told:
    """A beat that has the training stop after a step, or in the validation that follows it."""

    def __init__(self, step: int, *, validating: bool = False) -> None:
        self.step = step
        self.validating = validating
        self.now = self.reached = False

    def __call__(self, progress: dict[str, Any] | None, **_: bool) -> None:
        if progress:
            self.reached = progress["step"] == self.step
        self.now = self.reached and self.validating == (progress is None)

    def stopping(self) -> bool:
        return self.now


def test_asked_to_stop_it_saves_and_stops(
    tmp_path: Path, digits: Dataset, uninterrupted: Any
) -> None:
    """However seldom there would be a checkpoint otherwise, and in a validation too."""
    for told, place in (
        (Told(1), (1, 0, 1)),
        (Told(8), (8, 1, 2)),
        (Told(18, validating=True), (18, 2, 6)),
        (Told(23), (23, 3, 5)),
        (Told(25), (25, 4, 1)),
        (Told(36, validating=True), (36, 5, 6)),
    ):
        network = dropping(0 if told.step == 1 else 9)
        with pytest.raises(Stopped):
            loop.train(
                network,
                digits,
                GOING_ON,
                torch.device("cpu"),
                tmp_path,
                told,
                stopping=told.stopping,
            )
        state = next(checkpoint.load(tmp_path))
        assert (state["step"], state["epoch"], state["position"]) == place
    weights, _ = trained(tmp_path, digits, GOING_ON, dropping(9))
    assert same(weights, uninterrupted[0]) and rows(tmp_path) == uninterrupted[1]


def test_killed_between_the_row_of_an_epoch_and_its_checkpoint(
    tmp_path: Path,
    digits: Dataset,
    uninterrupted: Any,
    monkeypatch: pytest.MonkeyPatch,
    eager: None,
) -> None:
    save = checkpoint.save

    def third_epoch(folder: Path, state: dict[str, Any]) -> None:
        if state["epoch"] == 3:
            raise Killed
        save(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", third_epoch)
        with pytest.raises(Killed):
            trained(tmp_path, digits, GOING_ON, dropping(0))
    assert len(rows(tmp_path)) == 3
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "st')
    weights, _ = trained(tmp_path, digits, GOING_ON, dropping(9))
    assert same(weights, uninterrupted[0]) and rows(tmp_path) == uninterrupted[1]


@pytest.mark.parametrize("place", ["before the first", "between", "after"])
def test_killed_in_a_checkpoint_write(
    place: str,
    tmp_path: Path,
    digits: Dataset,
    uninterrupted: Any,
    monkeypatch: pytest.MonkeyPatch,
    eager: None,
) -> None:
    """Before, between and after the renames: there is always one whole checkpoint."""
    replace, count = os.replace, 0
    stop_at_rename = {"before the first": 20, "between": 21, "after": 22}[place]

    def counting(source: Any, target: Any) -> None:
        nonlocal count
        if Path(target).name in (checkpoint.NEWEST, checkpoint.PREVIOUS):
            count += 1
            # The first checkpoint has one rename, every other one two: previous, then newest.
            if count == stop_at_rename:
                raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counting)
        with pytest.raises(Killed):
            trained(tmp_path, digits, GOING_ON, dropping(0))
    weights, _ = trained(tmp_path, digits, GOING_ON, dropping(9))
    assert same(weights, uninterrupted[0]) and rows(tmp_path) == uninterrupted[1]


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_corrupt_checkpoint_means_the_one_before_it_and_at_last_starting_over(
    damaged: int,
    tmp_path: Path,
    digits: Dataset,
    uninterrupted: Any,
    eager: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(Killed):
        trained(tmp_path, digits, GOING_ON, dropping(0), stop_at(3.4))
    for name in ("checkpoint.pt", "checkpoint.previous.pt")[:damaged]:
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-200])
    weights, _ = trained(tmp_path, digits, GOING_ON, dropping(0))
    assert "checkpoint.pt is not readable" in caplog.text
    assert ("going back to the checkpoint before it" in caplog.text) == (damaged == 1)
    assert ("going on from step 19" in caplog.text) == (damaged == 1)
    assert same(weights, uninterrupted[0]) and rows(tmp_path) == uninterrupted[1]


@pytest.mark.parametrize("damage", ["device", "metrics", "ranks"])
def test_what_does_not_fit_here_is_not_used(
    damage: str,
    tmp_path: Path,
    digits: Dataset,
    uninterrupted: Any,
    eager: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A checkpoint of another kind of device, and metrics that a power cut has shortened."""
    with pytest.raises(Killed):
        trained(tmp_path, digits, GOING_ON, dropping(0), stop_at(3.4))
    if damage == "metrics":
        file = tmp_path / "metrics.jsonl"
        file.write_bytes(file.read_bytes()[:-40])
    else:
        for state in list(checkpoint.load(tmp_path)):
            changed = {"device": "cuda"} if damage == "device" else {"ranks": state["ranks"] * 2}
            checkpoint.save(tmp_path, {**state, **changed})
    weights, _ = trained(tmp_path, digits, GOING_ON, dropping(0))
    assert caplog.text.count("not used") == 2
    assert same(weights, uninterrupted[0]) and rows(tmp_path) == uninterrupted[1]


def test_training_that_is_done_is_not_done_again(
    tmp_path: Path, digits: Dataset, uninterrupted: Any
) -> None:
    trained(tmp_path, digits, GOING_ON, dropping(0))
    weights, summary = trained(tmp_path, digits, GOING_ON, dropping(9), stop_at(0))
    assert same(weights, uninterrupted[0])
    assert summary["best_epoch"] == uninterrupted[2]["best_epoch"]


def test_checkpoints_wait_for_their_time(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda _, state: saved.append(state["step"]))
    trained(tmp_path, digits, configured())
    assert saved == [24]


def test_large_checkpoints_are_written_less_often(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their share of the time stays below the limit, however long one takes."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SHARE", 0.2)
    spent = []

    def slowly(_folder: Path, _state: Any) -> None:
        time.sleep(0.02)
        spent.append(0.02)

    monkeypatch.setattr(checkpoint, "save", slowly)
    started = time.monotonic()
    trained(tmp_path, digits, configured(epochs=60))
    elapsed = time.monotonic() - started
    # The first and the last are not of its choosing.
    assert len(spent) >= 3 and sum(spent[1:-1]) <= 0.25 * elapsed


# What is logged and measured.


@pytest.mark.parametrize(
    ("method", "expected"),
    [("none", 1.0), ("mixup", 0.5), ("cutmix", 0.70), ("cutout", 1.0)],
)
def test_own_weight(method: str, expected: float, tmp_path: Path) -> None:
    made = resolve.parse(
        {
            "dataset": {"name": "digits", "train_size": 900, "image_size": 32},
            "model": {"name": "small_cnn", "width": 1},
            "augmentation": {"name": method}
            if method == "none"
            else {"name": method, "per_sample": True},
            "training": {"epochs": 3, "batch_size": 200},
        }
    )
    network = build(made.model, channels=1, classes=10, size=32, seed=0)
    trained(tmp_path, load(made.dataset), made, network)
    weights = [row["mix/own_weight"] for row in rows(tmp_path)]
    # 2430 draws with a deviation of about 0.3: one standard error is 0.006.
    tolerance = 1e-6 if expected == 1.0 else 0.02
    assert sum(weights) / 3 == pytest.approx(expected, abs=tolerance)


def test_training_accuracy_is_measured_without_mixing_or_crops(
    tmp_path: Path, digits: Dataset
) -> None:
    made = configured("mixup", epochs=30, crop_padding=1)
    network = network_of(made)
    trained(tmp_path, digits, made, network)
    found = measure(network, digits, made, lambda: None).metrics
    network.eval()
    with torch.no_grad():
        images = normalise(digits.train.images, digits.mean, digits.std)  # type: ignore[attr-defined]
        logits = network(images)
    hit = (logits.argmax(1) == digits.train.labels).double().mean().item()
    assert found["train/accuracy"] == pytest.approx(hit) and hit > 0.5
    loss = nn.functional.cross_entropy(logits, digits.train.labels).item()
    assert found["train/nll"] == pytest.approx(loss, rel=1e-5)
    # Under mixing the loss is another, larger one.
    assert rows(tmp_path)[-1]["train/loss"] > 1.2 * loss
    last = rows(tmp_path)[-1]
    assert last["validation/accuracy"] == pytest.approx(found["validation/accuracy"])


def test_the_best_epoch_is_the_first_of_the_best(tmp_path: Path, digits: Dataset) -> None:
    _, summary = trained(tmp_path, digits, configured(epochs=8))
    accuracies = [row["validation/accuracy"] for row in rows(tmp_path)]
    assert summary["best_validation_accuracy"] == max(accuracies)
    assert summary["best_epoch"] == accuracies.index(max(accuracies)) + 1


def test_epochs_that_are_not_validated_change_nothing_else(tmp_path: Path, digits: Dataset) -> None:
    weights, _ = trained(tmp_path / "all", digits, configured(epochs=5))
    fewer, summary = trained(tmp_path / "some", digits, configured(epochs=5, validate_every=2))
    assert same(weights, fewer)
    every = rows(tmp_path / "all")
    for row in every:
        if row["epoch"] in (1, 3):
            del row["validation/accuracy"], row["validation/nll"]
    assert rows(tmp_path / "some") == every
    best = max(every, key=lambda row: row.get("validation/accuracy", -1))
    assert summary["best_epoch"] == best["epoch"]


def test_progress_is_told_at_every_step(tmp_path: Path, digits: Dataset) -> None:
    told: list[dict[str, Any]] = []

    def beat(progress: dict[str, Any] | None, *, force: bool = False) -> None:
        if progress:
            told.append(progress)

    trained(tmp_path, digits, configured(epochs=2), beat=beat)
    assert [beat["epoch"] for beat in told] == pytest.approx([n / 6 for n in range(1, 13)])
    assert {beat["epochs"] for beat in told} == {2}
    assert all(beat["images_per_second"] > 0 for beat in told)


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_loss_that_explodes_is_no_score(tmp_path: Path, digits: Dataset, epochs: int) -> None:
    # In a single step, too: its loss is still a number, what is left of the network is not.
    made = configured(epochs=epochs, batch_size=500, learning_rate=1e30, nesterov=False)
    with pytest.raises(loop.Diverged):
        trained(tmp_path, digits, made)
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert not (tmp_path / "checkpoint.pt").exists()
