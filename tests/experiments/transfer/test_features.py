"""Features that are made once against features made at every step; mixing in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.experiments.config import resolve
from mixbench.experiments.config.rules import why_not_cached
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.signals import Stopped
from mixbench.experiments.training import cached_features as making
from mixbench.experiments.training import checkpoints, loop
from mixbench.experiments.training.inputs import Pixels
from mixbench.experiments.training.learner import Learner
from mixbench.experiments.training.mix_features import mix_features
from mixbench.experiments.training.random_streams import RandomStreams
from mixbench.experiments.transfer.split_network import Boundary, features_at, split
from tests.support import running
from tests.support.ranking import on_ranks

CPU = torch.device("cpu")
CUTMIX = {"name": "cutmix", "per_sample": True}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with running.one_thread():
        yield


def configured(
    transfer: dict[str, Any],
    augmentation: Any = "none",
    model: str = "small_cnn",
    staging: Any = None,
    **training: Any,
) -> RunConfig:
    given = {"crop_padding": 0, "flip": False, "learning_rate": 0.1} | training
    return resolve.parse(
        {
            # 180 images: 32, 32, 32, 32, 32 and 20.
            "dataset": {"name": "digits", "train_size": 200},
            "model": {
                "name": model,
                "input_size": 64 if "vit" in model else 32 if "timm" in model else 12,
            },
            "augmentation": augmentation,
            "staging": staging,
            "transfer": transfer,
            "training": {"epochs": 2, "batch_size": 32, **given},
            "evaluation": {"batch_size": 7, "occlusion": {"shapes": []}},
        }
    )


def network_of(made: RunConfig) -> nn.Module:
    return build(made.model, channels=1, classes=10, size=8, seed=made.seed)


def trained(
    folder: Path, made: RunConfig, dataset: Dataset | None = None, beat: Any = None, **more: Any
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The weights and the rows of the epochs."""
    folder.mkdir(exist_ok=True)
    network = network_of(made)
    dataset = dataset or load(made.dataset)
    loop.train(network, dataset, made, CPU, folder, beat or (lambda *_, **__: None), **more)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["time"], row["images_per_second"]
    return {name: value.clone() for name, value in network.state_dict().items()}, rows


def uncached(made: RunConfig) -> RunConfig:
    raw = made.model_dump()
    return resolve.parse(raw | {"transfer": {**raw["transfer"], "cache": False}})


def assert_alike(one: Any, other: Any) -> None:
    """Weights and rows, but for rounding: other batches may add up in another order."""
    assert list(one[0]) == list(other[0])
    for name, value in one[0].items():
        torch.testing.assert_close(other[0][name], value, rtol=1e-5, atol=1e-6)
    assert len(one[1]) == len(other[1])
    for own, row in zip(one[1], other[1], strict=True):
        assert row == pytest.approx(own, rel=1e-5)


# Cached and not.


@pytest.mark.parametrize(
    ("model", "freeze", "mixing", "augmentation", "boundary"),
    [
        ("small_cnn", "all", "pixels", "none", "the input of classifier"),
        ("small_cnn", 2, "pixels", "none", "features.6"),
        ("small_cnn", "features.3", "features", "mixup", "features.3"),
        # Looks at images, which are cached with nothing.
        ("small_cnn", 1, "features", {"name": "saliencymix", "prob": 0.5}, "features.2"),
        ("resnet20", "all", "features", CUTMIX, "blocks.8"),
        ("timm/test_resnet", "all", "pixels", "none", "the input of fc"),
        ("timm/mobilenetv3_small_050", "all", "features", "ricap", "blocks.5"),
        ("timm/test_vit", 3, "features", CUTMIX, "blocks.2"),
    ],
)
def test_cached_features_give_the_same_result(
    model: str,
    freeze: Any,
    mixing: str,
    augmentation: Any,
    boundary: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made = configured({"freeze": freeze, "mixing": mixing}, augmentation, model)
    whole = trained(tmp_path / "whole", uncached(made))
    assert "features" not in caplog.text
    once = trained(tmp_path / "once", made)
    assert f"features of 200 images at {boundary} cached" in caplog.text
    assert_alike(whole, once)
    first = network_of(made).state_dict()
    head = list(first)[-1]
    assert not torch.allclose(first[head], once[0][head], atol=1e-3)
    assert once[1][0]["train/loss"] != once[1][1]["train/loss"]


class Dropping(nn.Module):
    """Dropout behind the boundary, and batch normalisation that is trained."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.features = inner.features
        self.dropout = nn.Dropout(0.4)
        self.norm = nn.BatchNorm1d(inner.classifier.in_features)
        self.classifier = inner.classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.norm(self.dropout(self.features(images).flatten(1))))


def test_what_is_drawn_and_counted_behind_the_boundary_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing the two ways before the training leaves no trace in either."""
    made = configured({"freeze": 2})
    build_it = network_of

    def dropping(made: RunConfig) -> nn.Module:
        return Dropping(build_it(made))

    monkeypatch.setitem(globals(), "network_of", dropping)
    whole, once = (trained(tmp_path / f"{n}", one) for n, one in enumerate((uncached(made), made)))
    assert_alike(whole, once)
    assert int(once[0]["norm.num_batches_tracked"]) == 12


def test_the_frozen_part_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over training and validation images, and for the comparison."""
    seen: list[int] = []
    made = configured({"freeze": 2}, epochs=5)
    network = network_of(made)
    network.get_submodule("features.0").register_forward_hook(
        lambda _module, _arguments, output: seen.append(len(output))
    )
    monkeypatch.setitem(globals(), "network_of", lambda _made: network)
    trained(tmp_path, made)
    # The part behind gets there with its one image.
    assert sum(count for count in seen if count > 1) == 200 + 2 * making.CHECKED


def test_staging_mixes_cached_features_as_it_would_others(tmp_path: Path) -> None:
    staging = {"phases": [{"from": 0.25, "to": 0.75, "prob": {"from": 1, "to": 0}}]}
    made = configured({"freeze": 2, "mixing": "features"}, "mixup", staging=staging)
    once = trained(tmp_path / "once", made)
    assert_alike(trained(tmp_path / "whole", uncached(made)), once)
    without = configured({"freeze": 2, "mixing": "features"}, "mixup")
    assert trained(tmp_path / "always", without)[1] != once[1]


def test_nothing_is_cached_without_a_frozen_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trained(tmp_path, configured({"backbone_rate": 0.5}))
    assert "cached" not in caplog.text


@pytest.mark.parametrize(
    ("transfer", "more", "said"),
    [
        ({"freeze": 2}, {"augmentation": "mixup"}, "images are mixed (transfer.mixing: pixels"),
        ({"freeze": 2}, {"crop_padding": 1}, "crops vary (training.crop_padding: 1"),
        ({"freeze": 2}, {"crop": "resized"}, "crops vary (training.crop: resized, not none)"),
        ({"freeze": 2}, {"flip": True}, "images are flipped (training.flip: true"),
        (
            {"freeze": 2, "unfreeze": [{"at": 0.5, "down_to": "all"}]},
            {},
            "does not stay frozen (transfer.unfreeze)",
        ),
        ({"freeze": 2}, {}, None),
        ({"freeze": 2}, {"augmentation": "mixup", "staging": "never"}, None),
        (
            {"freeze": 2},
            {"staging": {"phases": [{"method": {"name": "mixup"}, "to": 0.1}]}},
            "images are mixed",
        ),
        ({"freeze": 2, "mixing": "features"}, {"augmentation": "mixup"}, None),
    ],
)
def test_what_varies_is_not_cached(
    transfer: dict[str, Any],
    more: dict[str, Any],
    said: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made = configured(transfer, epochs=1, **more)
    reason = why_not_cached(made)
    assert (reason is None) if said is None else (reason is not None and said in reason)
    trained(tmp_path, made)
    assert ("features are not cached" if said else "GB, ") in caplog.text
    if said:
        with pytest.raises(UserError, match="cache: got true, but"):
            configured({**transfer, "cache": True}, epochs=1, **more)


def test_features_too_large_for_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # 200 images of 32 channels of 3 x 3 numbers of 4 bytes.
    monkeypatch.setattr(making, "_available_bytes", lambda _device: 200 * 32 * 9 * 4 - 1)
    made = configured({"freeze": 2})
    found = trained(tmp_path / "a", made)
    assert "features are not cached: they take 0.0 GB" in caplog.text
    with pytest.raises(UserError, match="cache: got true, but they take"):
        trained(tmp_path / "b", configured({"freeze": 2, "cache": True}))
    monkeypatch.setattr(making, "_available_bytes", lambda _device: 200 * 32 * 9 * 4)
    assert_alike(found, trained(tmp_path / "c", made))
    assert "at features.6 cached" in caplog.text
    monkeypatch.undo()
    assert 1e6 < making._available_bytes(CPU) < 1e13


def test_a_network_that_cannot_be_cut_is_trained_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    class Skipping(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.features = inner.features
            self.classifier = inner.classifier

        def forward(self, images: Tensor) -> Tensor:
            early = self.features[:3](images)
            late = self.features[3:](early)
            return self.classifier(late.flatten(1)) + early.mean((1, 2, 3)).unsqueeze(1)

    class Late(nn.Module):
        """What runs first is registered last, so it is not frozen."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.features, self.classifier = inner.features, inner.classifier
            self.norm = nn.BatchNorm2d(1)

        def forward(self, images: Tensor) -> Tensor:
            return self.classifier(self.features(self.norm(images)).flatten(1))

    made = configured({"freeze": 2})
    build_it = network_of
    for kind, said in (
        (Skipping, "the part behind 'features.6' does not work alone"),
        (Late, "something before the output of 'features.6' is trained"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(globals(), "network_of", lambda made, kind=kind: kind(build_it(made)))
            found = trained(tmp_path / kind.__name__, made)
            whole = trained(tmp_path / f"{kind.__name__} whole", uncached(made))
        assert f"not cached: {said}" in caplog.text
        # Having tried leaves no trace.
        assert found[1] == whole[1]
        assert all(torch.equal(value, whole[0][name]) for name, value in found[0].items())


# Going on, and being stopped.


class Killed(Exception):
    """As if the process had ended."""


def test_going_on_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SHARE", 1e9)
    made = configured({"freeze": 2, "mixing": "features", "cache": True}, CUTMIX)
    straight = trained(tmp_path / "straight", made)
    for kill in (1, 4, 6, 9):

        def beat(progress: Any, *, force: bool = False, kill: int = kill) -> None:
            if progress and progress["step"] == kill:
                raise Killed

        with pytest.raises(Killed):
            trained(tmp_path / "halting", made, beat=beat)
    halting = trained(tmp_path / "halting", made)
    assert halting[1] == straight[1]
    for name, value in straight[0].items():
        assert torch.equal(halting[0][name], value), name


def test_it_beats_and_stops_while_features_are_made(tmp_path: Path) -> None:
    beats: list[Any] = []
    with pytest.raises(Stopped):
        trained(
            tmp_path,
            configured({"freeze": 2}),
            beat=lambda progress, **_: beats.append(progress),
            stopping=lambda: len(beats) >= 8,
        )
    # Six batches of training images, two of validation images, and no step was made.
    assert beats == [None] * 8


def together(group: Ranks, every: list[RunConfig], folder: str) -> list[dict[str, Any]]:
    found = []
    for number, made in enumerate(every):
        weights, rows = trained(Path(folder) / f"{number}", made, ranks=group)
        found.append({"weights": weights, "rows": rows})
    # A rank without room: then none makes features.
    room, given = making._available_bytes, 0.0 if group.rank else 1e12
    making._available_bytes = lambda _: given  # type: ignore[assignment]
    weights, rows = trained(Path(folder) / "short", every[-1], ranks=group)
    making._available_bytes = room
    found.append({"weights": weights, "rows": rows})
    return found


def test_ranks_that_train_behind_their_own_features(tmp_path: Path) -> None:
    every = [configured({"freeze": freeze, "cache": True}) for freeze in ("all", 2)]
    every += [*map(uncached, every), configured({"freeze": "all"})]
    for of_rank in on_ranks(2, tmp_path / "job", together, every, str(tmp_path)):
        runs = [(run["weights"], run["rows"]) for run in of_rank]
        for once, whole in ((runs[0], runs[2]), (runs[1], runs[3]), (runs[5], runs[4])):
            assert_alike(whole, once)
            assert len(once[1]) == 2


# Mixing in features.


def test_features_are_mixed_and_images_are_not() -> None:
    """Against mixing by hand, with the plan of the same draws."""
    made = configured({"freeze": 2, "mixing": "features"}, CUTMIX)
    dataset = load(made.dataset)
    network = network_of(made).eval()
    boundary = Boundary("features.6")
    order, crops, draws, again = (torch.Generator().manual_seed(3) for _ in range(4))
    streams = RandomStreams(order, crops, draws)
    inputs = Pixels(Learner.of(network, made, CPU), dataset, made, streams, boundary)
    mix = augmentations.create(**made.augmentation)
    raw, labels = next(dataset.train.batches(16))
    with torch.no_grad():
        _, batch = inputs.mix(mix, raw, labels, augmentations.Bank())
        logits = inputs.logits(network, batch)
        images = making._normalised(raw, dataset, made)
        plan = mix.sample(images.shape, generator=again)
        expected = split(network, boundary, images)(
            plan.mix_features(features_at(network, boundary, images))
        )
        plain = network(images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(logits, plain, atol=1e-2)
    assert torch.equal(batch.images, images)
    dense = plan.mix_labels(labels, 10).dense(10)
    assert torch.equal(batch.targets.dense(10), dense) and (dense.amax(1) < 1).any()


def test_tokens_are_mixed_where_they_stand() -> None:
    """A 4 x 4 grid of tokens behind a class token: the box is pasted in the grid."""

    class Transformer(nn.Module):
        num_prefix_tokens = 1

    plan = augmentations.create("cutmix", alpha=1.0).sample(
        (3, 1, 8, 8), generator=torch.Generator().manual_seed(5)
    )
    maps = torch.randn(3, 5, 4, 4)
    token = torch.randn(3, 1, 5)
    tokens = torch.cat([token, maps.flatten(2).transpose(1, 2)], dim=1)
    found = mix_features(plan, tokens, Transformer())
    expected = plan.mix_features(maps)
    assert not torch.equal(expected, maps)
    assert torch.equal(found[:, 1:].transpose(1, 2).reshape(3, 5, 4, 4), expected)
    torch.testing.assert_close(found[:, 0], plan.mix_features(token[:, 0]))
    with pytest.raises(ValueError, match="the tokens of a square to mix, got 14"):
        mix_features(plan, tokens[:, :15], Transformer())


def test_channels_last_networks_and_vectors() -> None:
    class Windows(nn.Module):
        output_fmt = "NHWC"

    plan = augmentations.create("cutmix").sample(
        (3, 1, 8, 8), generator=torch.Generator().manual_seed(5)
    )
    maps = torch.randn(3, 4, 4, 4)
    found = mix_features(plan, maps.permute(0, 2, 3, 1), Windows()).permute(0, 3, 1, 2)
    assert torch.equal(found, plan.mix_features(maps))
    assert not torch.equal(found, mix_features(plan, maps.permute(0, 2, 3, 1), nn.Identity()))
    vectors = torch.randn(3, 6)
    assert torch.equal(mix_features(plan, vectors, nn.Identity()), plan.mix_features(vectors))
    for other in (torch.randn(3, 1, 1, 2, 2), (vectors, vectors)):
        with pytest.raises(ValueError, match="to mix, got"):
            mix_features(plan, other, nn.Identity())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("freeze", "augmentation", "said"),
    [
        (2, "manifold_mixup", "manifold_mixup mixes inside the network by itself"),
        (0, "mixup", "freeze"),
        (None, "mixup", "nothing is frozen"),
    ],
)
def test_what_cannot_be_mixed_in_features(freeze: Any, augmentation: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        configured({"freeze": freeze, "mixing": "features"}, augmentation)


def test_a_boundary_that_gives_no_features(tmp_path: Path) -> None:
    made = configured(
        {"freeze": "blocks.0.attn.qkv", "mixing": "features"}, "mixup", "timm/test_vit"
    )
    # Queries, keys and values are tokens too, so that works; what runs twice doesn't.
    trained(tmp_path / "a", made)

    class Twice(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.features, self.classifier = inner.features, inner.classifier

        def forward(self, images: Tensor) -> Tensor:
            self.features[:1](images)
            return self.classifier(self.features(images).flatten(1))

    made = configured({"freeze": "features.0", "mixing": "features"}, "mixup")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"features\.0 runs 2 times for a batch"):
        loop.train(
            Twice(network_of(made)),
            load(made.dataset),
            made,
            CPU,
            tmp_path / "b",
            lambda *_, **__: None,
            ranks=ALONE,
        )


def test_features_are_mixed_where_they_were_when_layers_thaw(tmp_path: Path) -> None:
    """The boundary of the start stays; the layers that thaw get gradients through it."""
    made = configured(
        {"freeze": 2, "mixing": "features", "unfreeze": [{"at": 0.5, "down_to": "all"}]},
        CUTMIX,
        learning_rate=0.3,
    )
    weights, rows = trained(tmp_path, made)
    first = network_of(made).state_dict()
    assert not torch.equal(first["features.0.weight"], weights["features.0.weight"])
    assert len(rows) == 2
