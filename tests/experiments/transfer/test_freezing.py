"""Freezing and unfreezing in real trainings on digits: what is trained, at which step, how fast."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import ModelConfig, RunConfig
from mixbench.experiments.config.transfer import TransferConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.signals import Stopped
from mixbench.experiments.store import checkpoint
from mixbench.experiments.training import loop
from mixbench.experiments.training.control import Beat
from mixbench.experiments.training.schedules import learning_rate
from mixbench.experiments.transfer.freeze import Freezing
from mixbench.experiments.transfer.layers import Layers
from tests.support import running
from tests.support.ranking import on_ranks

CPU = torch.device("cpu")
STEPS = 6
"""Of an epoch: 180 images in batches of 32."""
LAYERS = {
    "stem": (),
    "1": ("features.0", "features.1"),
    "2": ("features.3", "features.4"),
    "3": ("features.7", "features.8"),
    "head": ("classifier",),
}
"""Those of small_cnn that have parameters, by hand; it has no neck and nothing in the stem."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with running.one_thread():
        yield


def configured(
    transfer: dict[str, Any] | None,
    augmentation: Any = "none",
    model: str = "small_cnn",
    staging: Any = None,
    **section: Any,
) -> RunConfig:
    if transfer is not None and "unfreeze" not in transfer and "freeze" in transfer:
        transfer = {"cache": False, **transfer}
    return resolve.parse(
        {
            "dataset": {"name": "digits", "train_size": 200, "image_size": 12},
            "model": {"name": model} if model.startswith("timm") else {"name": model, "width": 4},
            "augmentation": augmentation,
            "staging": staging,
            "transfer": transfer,
            "training": {
                "epochs": 4,
                "batch_size": 32,
                "learning_rate": 0.05,
                "weight_decay": 0.01,
                **section,
            },
        }
    )


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(configured(None).dataset)


def network_of(made: RunConfig) -> nn.Module:
    return build(made.model, channels=1, classes=10, size=12, seed=made.seed)


def quiet(*_: Any, **__: Any) -> None:
    """No heartbeat."""


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def trained(
    folder: Path,
    dataset: Dataset,
    made: RunConfig,
    network: nn.Module | None = None,
    beat: Beat = quiet,
) -> dict[str, Tensor]:
    folder.mkdir(exist_ok=True)
    network = network or network_of(made)
    loop.train(network, dataset, made, CPU, folder, beat)
    return state_of(network)


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("time", "images_per_second")}
        for line in lines
    ]


def module_of(name: str) -> str:
    return name.rpartition(".")[0]


# What is frozen stays as it was, to the last bit.

FROZEN: list[tuple[Any, tuple[str, ...]]] = [
    (1, ("1",)),
    (2, ("1", "2")),
    (3, ("1", "2", "3")),
    ("all", ("1", "2", "3")),
    ("features.6", ("1", "2")),
]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize(("freeze", "layers"), FROZEN)
@pytest.mark.parametrize("cache", [False, None])
def test_frozen_parameters_and_statistics_are_bit_identical(
    freeze: Any,
    layers: tuple[str, ...],
    optimiser: str,
    cache: bool | None,
    tmp_path: Path,
    digits: Dataset,
) -> None:
    made = configured({"freeze": freeze, "cache": cache}, epochs=2, optimiser=optimiser)
    before = state_of(network_of(made))
    after = trained(tmp_path, digits, made)
    frozen = {module for layer in layers for module in LAYERS[layer]}
    for name, value in before.items():
        assert torch.equal(after[name], value) == (module_of(name) in frozen), name
    assert torch.isfinite(after["classifier.weight"]).all()


def test_up_to_a_module_is_up_to_it_and_no_further(tmp_path: Path, digits: Dataset) -> None:
    """Within a layer: the convolution, not the normalisation behind it."""
    made = configured({"freeze": "features.3"}, epochs=1)
    before = state_of(network_of(made))
    after = trained(tmp_path, digits, made)
    same = {module_of(name) for name, value in before.items() if torch.equal(after[name], value)}
    assert same == {"features.0", "features.1", "features.3"}


@pytest.mark.parametrize(
    ("model", "freeze", "trained_prefixes"),
    [
        ("resnet20", 0, ("blocks", "norm", "classifier")),
        ("resnet20", "all", ("classifier",)),
        ("resnet20", "blocks.4", ("blocks.5", "blocks.6", "blocks.7", "blocks.8", "norm", "class")),
        ("timm/vit_tiny_patch16_224", 10, ("blocks.10", "blocks.11", "norm", "head")),
        ("timm/mobilenetv3_small_050", 5, ("blocks.5", "conv_head", "classifier")),
    ],
)
def test_other_networks(
    model: str, freeze: Any, trained_prefixes: tuple[str, ...], tmp_path: Path, digits: Dataset
) -> None:
    section = {"image_size": 32, "name": "digits", "train_size": 100}
    made = configured({"freeze": freeze}, model=model, epochs=1, batch_size=45)
    made = resolve.parse({**made.model_dump(mode="json"), "dataset": section})
    network = build(made.model, channels=1, classes=10, size=32, seed=0)
    before = state_of(network)
    after = trained(tmp_path, load(made.dataset), made, network)
    for name, value in before.items():
        # A convolution before batch normalisation may have a gradient of exactly 0: nothing else.
        assert torch.equal(after[name], value) != name.startswith(trained_prefixes), name


# What happens at each step.


class Spy:
    """What of the network is trained and in training mode at each step, its weights before it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.trained: list[set[str]] = []
        self.training: list[set[str]] = []
        self.weights: list[dict[str, Tensor]] = []
        self.gradients: list[dict[str, Tensor | None]] = []
        network.register_forward_pre_hook(self._look)

    def _look(self, network: nn.Module, _arguments: Any) -> None:
        if not torch.is_grad_enabled():
            return
        parameters = dict(network.named_parameters())
        self.trained.append({module_of(n) for n, p in parameters.items() if p.requires_grad})
        self.training.append({name for name, module in network.named_modules() if module.training})
        self.weights.append(state_of(network))
        # Those of the step before.
        self.gradients.append(
            {n: None if p.grad is None else p.grad.clone() for n, p in parameters.items()}
        )


def modules(*layers: str) -> set[str]:
    return {module for layer in layers for module in LAYERS[layer]}


UNFREEZINGS: list[tuple[dict[str, Any], dict[int, tuple[str, ...]]]] = [
    # The step, of 24, and what is trained from then on.
    (
        {"freeze": "all", "unfreeze": "gradual"},
        {0: ("head",), 6: ("head", "3"), 12: ("head", "3", "2"), 18: ("head", "3", "2", "1")},
    ),
    (
        {"freeze": 2, "unfreeze": "gradual"},
        {0: ("head", "3"), 8: ("head", "3", "2"), 16: ("head", "3", "2", "1")},
    ),
    (
        {
            "freeze": "all",
            "unfreeze": [{"at": 0.4, "down_to": 2}, {"at": "epoch 3", "down_to": "all"}],
            "layer_decay": 0.5,
        },
        {0: ("head",), 10: ("head", "3", "2"), 18: ("head", "3", "2", "1")},
    ),
    (
        {
            "freeze": "features.3",
            "unfreeze": [{"at": 0.01, "down_to": 2}, {"at": 0.9, "down_to": 1}],
        },
        {0: ("head", "3", "2"), 22: ("head", "3", "2", "1")},
    ),
]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize(("transfer", "expected"), UNFREEZINGS)
def test_unfreezing_comes_at_its_step(
    transfer: dict[str, Any],
    expected: dict[int, tuple[str, ...]],
    optimiser: str,
    tmp_path: Path,
    digits: Dataset,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made = configured(transfer, optimiser=optimiser, learning_rate=0.01)
    network = network_of(made)
    spy = Spy(network)
    trained(tmp_path, digits, made, network)
    assert len(spy.trained) == 24
    states = [*spy.weights, state_of(network)]
    total = sum(p.numel() for p in network.parameters())
    for step in range(24):
        wanted = modules(*expected[max(at for at in expected if at <= step)])
        assert spy.trained[step] == wanted, step
        leaves = {name for name in spy.training[step] if name in modules(*LAYERS)}
        assert leaves == wanted, step
        # Weights and statistics change in exactly the steps in which they are trained.
        for name, value in states[step].items():
            same = torch.equal(states[step + 1][name], value)
            assert same == (module_of(name) not in wanted), (step, name)
        share = rows(tmp_path)[step // STEPS]["transfer/trained"]
        if step % STEPS == STEPS - 1:
            numbers = [p.numel() for n, p in network.named_parameters() if module_of(n) in wanted]
            assert share == pytest.approx(sum(numbers) / total)
    told = [at for at in expected if at]
    lines = [line for line in caplog.messages if "from here on trained" in line]
    if made.transfer and made.transfer.freeze != "features.3":
        assert [int(line.split()[1].rstrip(":")) for line in lines] == told
        assert "all layers, 100.0 % of the parameters" in lines[-1]


def test_the_first_unfreezing_of_the_last_case_is_in_the_log_too(
    tmp_path: Path, digits: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    unfreeze = [{"at": 0.3, "down_to": 3}]
    trained(tmp_path, digits, configured({"freeze": "all", "unfreeze": unfreeze}))
    assert "step 7: from here on trained: layer 3 and the head, 8" in caplog.text


@pytest.mark.parametrize(
    ("at", "accuracies", "step"),
    [
        # Best in epoch 2; epochs 3 and 4 are no better: a plateau of 2 after epoch 4.
        ("plateau 2", [0.1, 0.5, 0.4, 0.5, 0.6, 0.7], 24),
        ("plateau 1", [0.1, 0.5, 0.4, 0.5, 0.6, 0.7], 18),
        ("plateau 3", [0.1, 0.5, 0.4, 0.5, 0.6, 0.7], None),
        ("plateau 3 by 0.5", [0.1, 0.5, 0.4, 0.5, 0.6, 0.7], 18),
    ],
)
def test_unfreezing_at_a_plateau(
    at: str,
    accuracies: list[float],
    step: int | None,
    tmp_path: Path,
    digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = iter(accuracies)
    validate = loop.validate
    monkeypatch.setattr(
        loop, "validate", lambda *some: {**validate(*some), "accuracy": next(given)}
    )
    transfer = {"freeze": "all", "unfreeze": [{"at": at, "down_to": "all"}]}
    made = configured(transfer, epochs=6)
    network = network_of(made)
    spy = Spy(network)
    trained(tmp_path, digits, made, network)
    found = [number for number, names in enumerate(spy.trained) if names == modules(*LAYERS)]
    assert found == ([] if step is None else list(range(step, 36)))
    assert all(names in (modules(*LAYERS), modules("head")) for names in spy.trained)


def test_mixing_changes_with_the_unfreezing(tmp_path: Path, digits: Dataset) -> None:
    """Nothing is mixed until the first unfreezing, and everything from then on."""
    transfer = {"freeze": "all", "unfreeze": [{"at": 0.5, "down_to": 3}]}
    staging = {"phases": [{"from": "unfreeze 1"}]}
    made = configured(transfer, "mixup", staging=staging)
    trained(tmp_path, digits, made)
    weights = [row["mix/own_weight"] for row in rows(tmp_path)]
    assert weights[:2] == [1.0, 1.0] and all(0.2 < weight < 0.8 for weight in weights[2:])


# How fast each is trained.


def first_update(
    transfer: dict[str, Any], tmp_path: Path, digits: Dataset, **section: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], float]:
    """Weights before and after a training of one step over all images, its gradients, its rate."""
    made = configured(transfer, epochs=1, batch_size=180, **section)
    network = network_of(made)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    trained(tmp_path, digits, made, network)
    after = {name: p.detach().clone() for name, p in network.named_parameters()}
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return before, after, gradients, learning_rate(0, 1, made.training)


SCALES: list[tuple[dict[str, Any], dict[str, float]]] = [
    ({"backbone_rate": 0.1}, {"1": 0.1, "2": 0.1, "3": 0.1, "head": 1.0}),
    ({"layer_decay": 0.5}, {"1": 0.125, "2": 0.25, "3": 0.5, "head": 1.0}),
    ({"backbone_rate": 2, "layer_decay": 0.5}, {"1": 0.25, "2": 0.5, "3": 1.0, "head": 1.0}),
    ({"backbone_rate": 0.1, "freeze": 1}, {"1": 0.0, "2": 0.1, "3": 0.1, "head": 1.0}),
]


@pytest.mark.parametrize(("transfer", "scales"), SCALES)
def test_the_first_update_is_that_of_the_layers_rate(
    transfer: dict[str, Any], scales: dict[str, float], tmp_path: Path, digits: Dataset
) -> None:
    """SGD with Nesterov's momentum by hand: w - rate * scale * (1 + momentum) * (g + decay * w)."""
    before, after, gradients, rate = first_update(transfer, tmp_path, digits)
    for layer, scale in scales.items():
        for module in LAYERS[layer]:
            for name in (n for n in before if module_of(n) == module):
                if scale == 0:
                    assert torch.equal(after[name], before[name]) and name not in gradients
                    continue
                expected = before[name] - rate * scale * 1.9 * (
                    gradients[name] + 0.01 * before[name]
                )
                torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=1e-7)
                assert not torch.allclose(after[name], before[name], rtol=1e-6, atol=1e-9)


def test_adamw_takes_the_rates_too(tmp_path: Path, digits: Dataset) -> None:
    """Its first update is the rate in the direction of the gradient's sign, and the decay."""
    transfer = {"backbone_rate": 0.1}
    before, after, gradients, rate = first_update(transfer, tmp_path, digits, optimiser="adamw")
    for name, value in before.items():
        step = rate * (1.0 if name.startswith("classifier") else 0.1)
        expected = value * (1 - step * 0.01) - step * gradients[name].sign()
        sure = gradients[name].abs() > 1e-4
        torch.testing.assert_close(after[name][sure], expected[sure], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_what_is_unfrozen_begins_without_momentum(
    scale: float, tmp_path: Path, digits: Dataset
) -> None:
    """In a group of its own, and in one with parameters that have some momentum already."""
    transfer = {"freeze": 1, "unfreeze": [{"at": 0.5, "down_to": "all"}], "backbone_rate": scale}
    made = configured(transfer)
    network = network_of(made)
    spy = Spy(network)
    trained(tmp_path, digits, made, network)
    rate = learning_rate(12, 24, made.training)
    for name in ("features.0.weight", "features.1.bias"):
        before, gradient = spy.weights[12][name], spy.gradients[13][name]
        assert gradient is not None and spy.gradients[12][name] is None
        expected = before - rate * scale * 1.9 * (gradient + 0.01 * before)
        torch.testing.assert_close(spy.weights[13][name], expected, rtol=1e-5, atol=1e-7)
    # One that had been trained before has some.
    before, gradient = spy.weights[12]["classifier.weight"], spy.gradients[13]["classifier.weight"]
    assert gradient is not None
    plain = before - rate * 1.9 * (gradient + 0.01 * before)
    assert not torch.allclose(spy.weights[13]["classifier.weight"], plain, rtol=1e-4, atol=1e-6)


def test_the_rate_in_the_metrics_is_the_heads(tmp_path: Path, digits: Dataset) -> None:
    trained(tmp_path / "a", digits, configured({"backbone_rate": 0.1}))
    trained(tmp_path / "b", digits, configured(None))
    rates = [[row["learning_rate"] for row in rows(tmp_path / place)] for place in "ab"]
    assert rates[0] == rates[1]
    assert "transfer/trained" not in rows(tmp_path / "a")[0]


def groups_of(transfer: TransferConfig | None, name: str) -> tuple[nn.Module, list[dict[str, Any]]]:
    with torch.device("meta"):
        network = build(ModelConfig(name=name), channels=3, classes=10, size=32, seed=0)
    return network, Freezing(network, Layers.of(network, name), transfer).parameter_groups()


@pytest.mark.parametrize("transfer", [None, TransferConfig(freeze=2), TransferConfig(head="new")])
def test_where_no_rates_differ_there_is_one_group_as_ever(transfer: TransferConfig | None) -> None:
    network, groups = groups_of(transfer, "resnet20")
    assert [list(group) for group in groups] == [["params"]]
    assert all(
        one is other for one, other in zip(groups[0]["params"], network.parameters(), strict=True)
    )


def test_rates_of_a_transformer() -> None:
    """As BEiT's layer decay counts: twelve blocks, the stem below them, the norm with the head."""
    transfer = TransferConfig(layer_decay=0.8)
    network, groups = groups_of(transfer, "timm/vit_tiny_patch16_224")
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    found = {name: scale[id(p)] for name, p in network.named_parameters()}
    assert len(scale) == len(found) == sum(len(group["params"]) for group in groups)
    assert found["cls_token"] == found["patch_embed.proj.bias"] == pytest.approx(0.8**13)
    assert found["blocks.0.norm1.weight"] == pytest.approx(0.8**12)
    assert found["blocks.11.mlp.fc2.bias"] == pytest.approx(0.8)
    assert found["norm.weight"] == found["head.weight"] == 1.0


# A frozen part costs no gradients.


@pytest.mark.parametrize(("freeze", "depth"), [(1, 1), (2, 2), ("all", 3)])
def test_the_frozen_part_makes_no_graph(freeze: Any, depth: int) -> None:
    network = build(ModelConfig(name="resnet20", width=4), channels=1, classes=10, size=12, seed=0)
    layers = Layers.of(network, "resnet20")
    Freezing(network, layers, TransferConfig(freeze=freeze)).train()
    outputs: dict[str, Any] = {}
    for name, module in network.named_modules():
        if name:
            module.register_forward_hook(
                lambda *given, name=name: outputs.__setitem__(name, given[2])
            )
    network(torch.randn(4, 1, 12, 12)).sum().backward()
    boundary = layers.names[depth - 1]
    order = list(outputs)
    for name in order[: order.index(boundary) + 1]:
        assert outputs[name].grad_fn is None, name
    behind = order[order.index(boundary) + 1 :]
    assert outputs["classifier"].grad_fn is not None
    if freeze != "all":
        assert any(outputs[name].grad_fn is not None for name in behind[:2])


def test_dropout_before_the_classifier_is_not_frozen_with_the_rest() -> None:
    """The network as a whole is trained in part: what it does itself in training mode goes on."""
    network = build(ModelConfig(name="timm/resnet18"), channels=1, classes=10, size=32, seed=0)
    network.drop_rate = 0.5  # type: ignore[assignment]
    freezing = Freezing(network, Layers.of(network, "timm/resnet18"), TransferConfig(freeze="all"))
    freezing.train()
    assert {name for name, module in network.named_modules() if module.training} == {"", "fc"}
    images = torch.randn(4, 1, 32, 32)
    assert not torch.equal(network(images), network(images))


def test_constants_of_a_network_are_never_trained() -> None:
    network = build(ModelConfig(name="small_cnn"), channels=1, classes=10, size=12, seed=0)
    network.get_submodule("features.1").bias.requires_grad_(False)  # type: ignore[union-attr]
    freezing = Freezing(
        network,
        Layers.of(network, "small_cnn"),
        TransferConfig(freeze=1, unfreeze=({"at": 0.5, "down_to": "all"},)),
    )
    assert freezing.unfreeze(1) and not freezing.unfreeze(1) and freezing.frozen == frozenset()
    fixed = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert fixed == ["features.1.bias"]


def test_gradual_is_one_layer_at_a_time_from_the_top() -> None:
    name = "timm/tf_efficientnet_lite0"
    with torch.device("meta"):
        network = build(ModelConfig(name=name), channels=3, classes=10, size=32, seed=0)
    layers = Layers.of(network, name)
    freezing = Freezing(network, layers, TransferConfig(freeze="all", unfreeze="gradual"))
    # Seven layers and the stem: in nine equal parts the last one begins at 8/9.
    assert freezing.moments == pytest.approx([n / 9 for n in range(1, 9)])
    parameters = dict(network.named_parameters())
    for number in range(9):
        assert freezing.unfreeze(number) == (number > 0)
        trained = {
            n.split(".")[1]
            for n, p in parameters.items()
            if n.startswith("blocks") and p.requires_grad
        }
        assert trained == {str(block) for block in range(7 - min(number, 7), 7)}
        assert parameters["conv_head.weight"].requires_grad == (number > 0)
        assert parameters["conv_stem.weight"].requires_grad == (number == 8)
    assert freezing.describe_trained() == "all layers, 100.0 % of the parameters"


# Going on.


class Halt:
    """Has a training stop before the step of this number, from 0; its state is saved."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.done = 0

    def beat(self, progress: dict[str, Any] | None, **_: bool) -> None:
        if progress:
            self.done = progress["step"]

    def stopping(self) -> bool:
        return self.done == self.step


def halted(
    made: RunConfig,
    digits: Dataset,
    folder: Path,
    stops: list[int],
    ranks: Ranks = ALONE,
    network: Callable[[RunConfig], nn.Module] = network_of,
) -> dict[str, Tensor]:
    """Stopped before each of the steps and started again: other weights, the same folder."""
    folder.mkdir(exist_ok=True)
    for number, stop in enumerate([*stops, -1]):
        halt = Halt(stop)
        last = network(made if number == 0 else made.model_copy(update={"seed": 9}))
        try:
            # Rank 0 is asked; the others find out.
            asked = halt.stopping if ranks.leads else (lambda: False)
            loop.train(last, digits, made, CPU, folder, halt.beat, asked, ranks)
        except Stopped:
            assert stop >= 0
        else:
            assert stop == -1
    return state_of(last)


GOING_ON = [
    # Unfreezings at 6 (an epoch's end) and 15 (within one).
    (
        {
            "freeze": "all",
            "unfreeze": [{"at": "epoch 1", "down_to": 2}, {"at": 0.63, "down_to": 1}],
            "layer_decay": 0.7,
        },
        "sgd",
    ),
    (
        {
            "freeze": "all",
            "unfreeze": [{"at": "epoch 1", "down_to": 2}, {"at": 0.63, "down_to": 1}],
        },
        "sgd",
    ),
    (
        {
            "freeze": 2,
            "unfreeze": [{"at": "plateau 1 by 0.25", "down_to": 2}, {"at": 0.63, "down_to": "all"}],
        },
        "adamw",
    ),
]


@pytest.mark.parametrize(("transfer", "optimiser"), GOING_ON)
def test_going_on_across_an_unfreezing_is_exact(
    transfer: dict[str, Any], optimiser: str, tmp_path: Path, digits: Dataset
) -> None:
    made = configured(
        transfer,
        {"name": "cutmix", "per_sample": True},
        optimiser=optimiser,
        crop_padding=1,
        learning_rate=0.01,
    )
    whole = trained(tmp_path / "whole", digits, made)
    # Before, at and after the steps of the unfreezings.
    for number, stops in enumerate(([5], [6], [14], [15], [5, 6, 7, 14, 15, 16, 23])):
        folder = tmp_path / str(number)
        again = halted(made, digits, folder, stops)
        assert all(torch.equal(again[name], value) for name, value in whole.items()), stops
        assert rows(folder) == rows(tmp_path / "whole")
    shares = [row["transfer/trained"] for row in rows(tmp_path / "whole")]
    assert shares == sorted(shares) and shares[0] < shares[1] < shares[2] == shares[3] == 1.0


def test_a_stop_in_the_validation_before_an_unfreezing(tmp_path: Path, digits: Dataset) -> None:
    """The epoch's row is that of the epoch, not of what begins after it."""
    made = configured({"freeze": "all", "unfreeze": [{"at": "epoch 2", "down_to": 3}]})
    whole = trained(tmp_path / "whole", digits, made)
    (tmp_path / "halted").mkdir()
    done: list[int] = []
    validating: list[bool] = []

    def beat(progress: dict[str, Any] | None, *, force: bool = False) -> None:
        if progress:
            done.append(progress["step"])
        validating.append(progress is None and bool(done) and done[-1] == 12)

    with pytest.raises(Stopped):
        loop.train(
            network_of(made),
            digits,
            made,
            CPU,
            tmp_path / "halted",
            beat,
            stopping=lambda: bool(validating) and validating[-1],
        )
    state = next(checkpoint.load(tmp_path / "halted"))
    assert (state["step"], state["position"]) == (12, 6)
    again = trained(tmp_path / "halted", digits, made)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    assert rows(tmp_path / "halted") == rows(tmp_path / "whole")


def test_a_checkpoint_of_before_there_were_schedules(tmp_path: Path, digits: Dataset) -> None:
    made = configured(None, "cutmix")
    whole = trained(tmp_path / "whole", digits, made)
    halt = Halt(9)
    (tmp_path / "old").mkdir()
    with pytest.raises(Stopped):
        loop.train(network_of(made), digits, made, CPU, tmp_path / "old", halt.beat, halt.stopping)
    (state,) = checkpoint.load(tmp_path / "old")
    checkpoint.save(tmp_path / "old", {key: state[key] for key in state if key != "accuracies"})
    again = trained(tmp_path / "old", digits, made)
    assert all(torch.equal(again[name], value) for name, value in whole.items())


# Several ranks.


def without_batch_norm() -> nn.Module:
    """What the network makes of an image depends on no other image."""
    network = build(ModelConfig(name="small_cnn", width=4), channels=1, classes=10, size=12, seed=0)
    features = network.get_submodule("features")
    for place, width in ((1, 4), (4, 8), (8, 16)):
        setattr(features, str(place), nn.GroupNorm(1, width))
    return network


def on_rank(group: Ranks, made: RunConfig, folder: str, stops: list[int], alike: bool) -> Any:
    network = (lambda _: without_batch_norm()) if alike else network_of
    return halted(made, load(made.dataset), Path(folder), stops, group, network)


RANKED = {
    "freeze": 2,
    "unfreeze": [{"at": 0.3, "down_to": 2}, {"at": 0.7, "down_to": "all"}],
    "backbone_rate": 0.5,
}


def test_two_ranks_do_what_one_process_does(tmp_path: Path) -> None:
    made = configured(RANKED)
    alone = on_rank(ALONE, made, str(tmp_path / "alone"), [], True)
    together = on_ranks(2, tmp_path / "job", on_rank, made, str(tmp_path / "both"), [], True)
    first = without_batch_norm().state_dict()
    for name, value in alone.items():
        assert torch.equal(together[0][name], together[1][name]), name
        torch.testing.assert_close(together[0][name], value, rtol=1e-3, atol=1e-5)
        assert not torch.allclose(first[name], value, atol=1e-4), name
    for own, other in zip(rows(tmp_path / "alone"), rows(tmp_path / "both"), strict=True):
        assert other == pytest.approx(own, rel=1e-3)


def test_two_ranks_go_on_exactly(tmp_path: Path) -> None:
    made = configured(RANKED, {"name": "cutmix", "per_sample": True})
    straight = on_ranks(2, tmp_path / "a", on_rank, made, str(tmp_path / "straight"), [], False)
    # Unfreezings at 7 and 17.
    stops = [6, 7, 8, 17]
    halting = on_ranks(2, tmp_path / "b", on_rank, made, str(tmp_path / "halting"), stops, False)
    for name, value in straight[0].items():
        assert torch.equal(halting[0][name], value), name
    assert rows(tmp_path / "straight") == rows(tmp_path / "halting")


# What can't be.


def test_what_the_network_does_not_have() -> None:
    network = build(ModelConfig(name="resnet20"), channels=1, classes=10, size=12, seed=0)
    layers = Layers.of(network, "resnet20")
    for given, expected in (
        ({"freeze": 4}, "transfer.freeze: got layer 4, expected at most 3, the network's layers: "),
        ({"freeze": "blcks.2"}, "no module 'blcks.2'; did you mean 'blocks.2'? Its layers 1 to 3"),
        ({"freeze": "classifier"}, "'classifier' is the classifier, which is always trained"),
        (
            {"freeze": "all", "unfreeze": ({"at": 0.5, "down_to": 4},)},
            "transfer.unfreeze: got layer 4, expected at most 3",
        ),
    ):
        with pytest.raises(UserError) as caught:
            Freezing(network, layers, TransferConfig(**given))
        assert expected in str(caught.value) and "\n" not in str(caught.value)
    bare = build(ModelConfig(name="small_cnn"), channels=1, classes=10, size=12, seed=0)
    with pytest.raises(UserError, match="got 0, but nothing up to there has a parameter"):
        Freezing(bare, Layers.of(bare, "small_cnn"), TransferConfig(freeze=0))
