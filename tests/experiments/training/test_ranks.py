"""Several ranks that train and measure together, against one process that does it alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mixbench.experiments import ranks
from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data import folder_pixels, picture_cache
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.after_training import measure
from mixbench.experiments.models.build import build
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.signals import Stopped
from mixbench.experiments.store import checkpoint
from mixbench.experiments.tasks.base import task_of
from mixbench.experiments.training import checkpoints, loop
from mixbench.experiments.training.inputs import Pixels
from mixbench.experiments.training.learner import Learner
from mixbench.experiments.training.random_streams import RandomStreams
from tests.support import running
from tests.support.ranking import on_ranks

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with running.one_thread():
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of JPEG and PNG files of several sizes; one in nine can't be read."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.RandomState(0)
    for label, name in enumerate(("beech", "oak", "pine")):
        (root / name).mkdir()
        for number in range(27):
            suffix = "jpg" if number % 2 else "png"
            path = root / name / f"{number:02}.{suffix}"
            if number % 9 == 4:
                path.write_bytes(b"not an image")
                continue
            pixels = random.randint(0, 200, (20 + number, 24, 3)).astype(np.uint8)
            pixels[..., label] += 55
            Image.fromarray(pixels).save(path)
    return root


def configured(
    dataset: dict[str, Any] | None = None, augmentation: Any = "none", **training: Any
) -> RunConfig:
    return resolve.parse(
        {
            "dataset": dataset or {"name": "digits", "train_size": 200},
            "model": {"name": "small_cnn", "width": 4},
            "augmentation": augmentation,
            "training": {"epochs": 2, "batch_size": 32, "learning_rate": 0.1, **training},
            # 359 images in batches of 50: eight, the last of 9.
            "evaluation": {"batch_size": 50, "occlusion": {"images": 120, "fractions": [0.5]}},
        }
    )


def of_files(root: Path) -> dict[str, Any]:
    return {"name": f"imagefolder:{root}", "image_size": 16}


def loaded(made: RunConfig) -> Dataset:
    """Image folders are streamed, by two loader processes."""
    # Called by the test and in its ranks: other tests of this process read folders into memory.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_pixels, "IN_MEMORY_BYTES", 0)
        patch.setattr(picture_cache, "open_or_make", lambda *_: None)
        return load(made.dataset, workers=2, crops=made.training.random_crops)


def without_batch_norm(dataset: Dataset) -> nn.Module:
    """What the network makes of an image depends on no other image."""
    torch.manual_seed(3)
    channels, height, width = dataset.shape
    inputs = 4 * (height // 2) * (width // 2)
    convolution = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
    return nn.Sequential(
        convolution, nn.ReLU(), nn.Flatten(), nn.Linear(inputs, len(dataset.classes))
    )


def with_dropout(made: RunConfig, dataset: Dataset) -> nn.Module:
    # Large enough that DDP makes several groups of its gradients.
    shape = {"channels": dataset.shape[0], "classes": 300, "size": dataset.shape[1]}
    network = build(made.model, **shape, seed=made.seed)
    torch.manual_seed(4)
    return nn.Sequential(
        network, nn.Dropout(0.3), nn.Linear(300, 1200), nn.ReLU(), nn.Linear(1200, 10)
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("time", "images_per_second")}
        for line in lines
    ]


def quiet(*_: Any, **__: Any) -> None:
    """No heartbeat."""


# What they tell each other.


def talk(group: Ranks) -> dict[str, Any]:
    own: list[tuple[Tensor, int] | None] = [(torch.tensor([group.rank]), group.rank), None]
    network = nn.BatchNorm1d(2)
    network.running_mean.fill_(group.rank)  # type: ignore[union-attr]
    group.align(network)
    return {
        "part": group.part,
        "meet": group.meet(10 + group.rank, 7 + group.rank),
        "total": group.total(torch.tensor([1.0, group.rank])),
        "share": group.share({"rank": group.rank, "tensor": torch.full((3,), group.rank)}),
        "gather": group.gather({("a", 0.5): [group.rank] * group.rank}),
        "interleave": group.interleave(own[: 2 if group.rank == 0 else 1]),
        "aligned": network.running_mean,
        "streams": [group.stream("mixing"), ALONE.stream("mixing")],
    }


def test_what_ranks_tell_each_other(tmp_path: Path) -> None:
    said = on_ranks(3, tmp_path, talk)
    for rank, one in enumerate(said):
        assert one["part"] == (rank, 3)
        assert one["meet"] == ([10, 11, 12], 7)
        assert one["total"].tolist() == [3.0, 3.0] and one["total"].dtype == torch.float64
        assert one["share"]["rank"] == 0 and one["share"]["tensor"].tolist() == [0, 0, 0]
        assert one["aligned"].tolist() == [0, 0]
    assert said[0]["gather"] == [{("a", 0.5): [n] * n} for n in range(3)]
    assert said[1]["gather"] == [{("a", 0.5): [1]}]
    assert said[0]["interleave"] == [(torch.tensor([n]), n) for n in range(3)] + [None]
    # Rank 0 draws what a lone run draws; no two ranks draw the same.
    assert said[0]["streams"][0] == said[0]["streams"][1]
    assert len({one["streams"][0] for one in said}) == 3


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (print, ("unpickled",))


def test_what_comes_from_another_rank_is_not_run() -> None:
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        ranks._unpack(ranks._pack(Trap()))


def test_turns() -> None:
    assert ranks.turns([[0, 3, 6], [1, 4], [2, 5]]) == list(range(7))
    assert ranks.turns([[0], [], []]) == [0]
    assert ranks.turns([[None, 2], [1]]) == [None, 1, 2]


# N ranks and one process on the same batches.


def trained_alike(group: Ranks, made: RunConfig, folder: str) -> dict[str, Any]:
    place = Path(folder)
    place.mkdir(exist_ok=True)
    dataset = loaded(made)
    network = without_batch_norm(dataset)
    loop.train(network, dataset, made, CPU, place, quiet, ranks=group)
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", ["array", "files"])
def test_an_update_is_that_of_one_process(
    size: int, kind: str, tmp_path: Path, photographs: Path
) -> None:
    if kind == "array":
        # 180 images: 32, 32, 32, 32, 32 and 20, which three ranks share as 7, 7 and 6.
        # The ranks' shares of a batch have other sums of class weights.
        weights = [9.0, *[1.0] * 9] if size == 3 else None
        recipe = {"optimiser": "sam", "repeated_augmentation": 2} if size == 2 else {}
        made = configured(crop_padding=0, flip=False, class_weights=weights, **recipe)
    else:
        intact = tmp_path / "intact"
        for path in photographs.rglob("*.*"):
            if path.read_bytes() != b"not an image":
                (intact / path.parent.name).mkdir(parents=True, exist_ok=True)
                (intact / path.parent.name / path.name).write_bytes(path.read_bytes())
        made = configured(of_files(intact), batch_size=15, crop_padding=0, flip=False)
    alone = trained_alike(ALONE, made, str(tmp_path / "alone"))
    together = on_ranks(size, tmp_path / "job", trained_alike, made, str(tmp_path / "together"))
    for name, value in alone.items():
        for one in together:
            assert torch.equal(one[name], together[0][name])
        torch.testing.assert_close(together[0][name], value, rtol=1e-4, atol=1e-5)
        # And not because nothing was learnt.
    first = without_batch_norm(loaded(made)).state_dict()
    assert not torch.allclose(first["3.weight"], alone["3.weight"], atol=1e-2)
    one, many = rows(tmp_path / "alone"), rows(tmp_path / "together")
    assert len(one) == len(many) == 2
    for own, other in zip(one, many, strict=True):
        assert other == pytest.approx(own, rel=1e-4)


# What is drawn.


class Spy(nn.Module):
    """Keeps what it is shown, and its dropout mask."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(64, 10)
        self.shown: list[Tensor] = []
        self.masks: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.shown.append(images.clone())
            self.masks.append(self.dropout(torch.ones(len(images), 5)))
        return self.head(images.flatten(1))


def spied(group: Ranks, made: RunConfig, folder: str) -> dict[str, Any]:
    """One epoch over images of which all are equal, so that only what is drawn differs."""
    dataset = loaded(made)
    alike = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(96, 1, 1, 1)
    # Two kinds of images for mixing to mix, in turns whatever the order.
    if made.augmentation["name"] != "none":
        alike[:] = 0
        alike[::2] = 255
    dataset = dataclasses.replace(
        dataset, train=ArraySplit(alike, torch.zeros(96, dtype=torch.int64))
    )
    place = Path(folder)
    place.mkdir(exist_ok=True)
    spy = Spy()
    loop.train(spy, dataset, made, CPU, place, quiet, ranks=group)
    return {"shown": torch.stack(spy.shown), "masks": torch.stack(spy.masks)}


def test_ranks_draw_their_own_crops_and_dropout_again_and_again_alike(tmp_path: Path) -> None:
    made = configured(epochs=1, crop_padding=2, flip=True)
    found = [
        on_ranks(2, tmp_path / f"job{n}", spied, made, str(tmp_path / f"{n}")) for n in range(2)
    ]
    for first, second in zip(*found, strict=True):
        assert torch.equal(first["shown"], second["shown"])
        assert torch.equal(first["masks"], second["masks"])
    one, other = found[0]
    assert one["shown"].shape == other["shown"].shape == (3, 16, 1, 8, 8)
    for batch in range(3):
        assert not torch.equal(one["shown"][batch], other["shown"][batch])
        assert not torch.equal(one["masks"][batch], other["masks"][batch])


def test_ranks_draw_their_own_mixing(tmp_path: Path) -> None:
    made = configured(
        epochs=1,
        crop_padding=0,
        flip=False,
        augmentation={"name": "mixup", "alpha": 1.0},
    )
    found = on_ranks(2, tmp_path / "job", spied, made, str(tmp_path / "run"))
    again = on_ranks(2, tmp_path / "job2", spied, made, str(tmp_path / "run2"))
    # The weight of a batch shows in the greys between the two kinds: lambda and 1 - lambda.
    greys = [[batch.unique().numpy().round(4).tolist() for batch in one["shown"]] for one in found]
    for batch in range(3):
        assert len(greys[0][batch]) > 2
        assert not set(greys[0][batch][1:-1]) & set(greys[1][batch][1:-1])
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one["shown"], other["shown"])


# Going on.


class Killed(Exception):
    """This process, and all other ranks with it."""


def killed_and_continued(
    group: Ranks, made: RunConfig, folder: str, kills: list[int]
) -> dict[str, Any]:
    """Killed after each of the steps in `kills` and started again: new network, same folder."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    # Before every step.
    checkpoints.CHECKPOINT_SECONDS, checkpoints.CHECKPOINT_SHARE = 0.0, 1e9
    dataset = loaded(made)
    for kill in [*kills, 0]:
        network = with_dropout(made, dataset)

        def beat(progress: dict[str, Any] | None, *, force: bool = False, kill: int = kill) -> None:
            if progress and progress["step"] == kill:
                raise Killed

        try:
            loop.train(network, dataset, made, CPU, place, beat, ranks=group)
        except Killed:
            continue
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("size", [2, 3])
def test_going_on_is_exact(size: int, tmp_path: Path) -> None:
    made = configured(
        augmentation={"name": "cutmix", "per_sample": True},
        batch_size=31,
        crop_padding=1,
        ema=0.9 if size == 2 else None,
        sampler="balanced" if size == 2 else None,
        swa=0.5 if size == 2 else None,
    )
    straight = on_ranks(
        size, tmp_path / "a", killed_and_continued, made, str(tmp_path / "straight"), []
    )
    kills = [2, 3, 6, 10]
    halting = on_ranks(
        size, tmp_path / "b", killed_and_continued, made, str(tmp_path / "halting"), kills
    )
    for name, value in straight[0].items():
        assert torch.equal(halting[0][name], value), name
    assert rows(tmp_path / "straight") == rows(tmp_path / "halting")
    if size == 2:
        one, other = (
            next(checkpoint.load(tmp_path / name))["swa"] for name in ("straight", "halting")
        )
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def stopped_and_continued(
    group: Ranks, made: RunConfig, folder: str, stops: list[str]
) -> dict[str, Any]:
    """Told to stop in an epoch's last step or in a validation; which steps were done, in order."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    dataset = loaded(made)
    done: list[int] = []
    for stop in [*stops, ""]:
        network = with_dropout(made, dataset)
        asked: list[str] = []
        last = len(done) + dataset.train.steps(made.training.batch_size, group.size)

        def beat(
            progress: dict[str, Any] | None,
            *,
            force: bool = False,
            asked: list[str] = asked,
            stop: str = stop,
            last: int = last,
        ) -> None:
            if progress is not None and not force:
                done.append(progress["step"])
            at = "validation" if progress is None else "last step" if len(done) == last else ""
            if at and at == stop:
                asked.append(at)

        # Rank 0 is asked; the others find out.
        stopping = (lambda asked=asked: bool(asked)) if group.leads else (lambda: False)
        try:
            loop.train(network, dataset, made, CPU, place, beat, stopping, group)
        except Stopped:
            continue
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    return {**weights, "done": torch.tensor(done)}


@pytest.mark.parametrize("size", [1, 2])
def test_a_stop_between_epochs_loses_no_step(size: int, tmp_path: Path) -> None:
    made = configured(batch_size=31, epochs=4)
    found = []
    for stops in ([], ["last step", "validation", "last step"]):
        folder = tmp_path / str(len(stops))
        job = (stopped_and_continued, made, str(folder / "run"), stops)
        folder.mkdir()
        found.append(job[0](ALONE, *job[1:]) if size == 1 else on_ranks(size, folder, *job)[0])
    straight, halting = found
    assert halting["done"].tolist() == list(range(1, len(straight["done"]) + 1))
    assert all(torch.equal(halting[name], value) for name, value in straight.items())


def test_a_checkpoint_of_other_ranks_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = configured(epochs=1)
    on_ranks(2, tmp_path / "job", trained_alike, made, str(tmp_path / "run"))
    alone = trained_alike(ALONE, made, str(tmp_path / "alone"))
    again = trained_alike(ALONE, made, str(tmp_path / "run"))
    assert "the checkpoint is of 2 ranks, not 1: not used" in caplog.text
    assert all(torch.equal(value, again[name]) for name, value in alone.items())


# Measuring.


def measured(group: Ranks, made: RunConfig) -> dict[str, Any]:
    dataset = loaded(made)
    network = build(
        made.model,
        channels=dataset.shape[0],
        classes=len(dataset.classes),
        size=dataset.shape[1],
        seed=1,
    )
    found = measure(network, dataset, made, lambda: None, group)
    skipped = group.gather(sorted(dataset.skipped))
    learner = Learner.of(network, made, CPU)
    inputs = Pixels(learner, dataset, made, RandomStreams.seeded(0, CPU, group))
    validated = loop.validate(task_of(made, dataset, CPU), inputs, quiet, group)
    return {
        "metrics": found.metrics,
        "curves": found.curves,
        "logits": torch.from_numpy(found.logits),
        "labels": torch.from_numpy(found.labels),
        "skipped": sorted({path for one in skipped for path in one}),
        "validated": validated,
    }


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", ["array", "files"])
def test_measurements_are_exact(size: int, kind: str, tmp_path: Path, photographs: Path) -> None:
    # Of the validation split's 20 images, in one batch, two ranks have none.
    made = configured() if kind == "array" else configured(of_files(photographs))
    if kind == "files":
        # Batches of 3: some have one image that can be read, or two.
        changed = made.evaluation.model_copy(update={"batch_size": 3})
        made = made.model_copy(update={"evaluation": changed})
    alone = measured(ALONE, made)
    together = on_ranks(size, tmp_path / "job", measured, made)
    for part in ("metrics", "curves", "skipped"):
        assert together[0][part] == alone[part], part
    for part in ("logits", "labels"):
        assert torch.equal(together[0][part], alone[part])
    for one in together:
        assert one["validated"] == alone["validated"]
    if kind == "files":
        broken = {str(p) for p in photographs.rglob("*.*") if p.read_bytes() == b"not an image"}
        dataset = loaded(made)
        in_test = sum(str(path) in broken for path in dataset.test.paths)  # type: ignore[attr-defined]
        assert set(alone["skipped"]) == broken and in_test
        assert len(alone["labels"]) == len(dataset.test) - in_test
    else:
        assert len(alone["labels"]) == 359


# Files that can't be read, and too few of them.


def test_training_goes_on_over_files_that_cannot_be_read(tmp_path: Path, photographs: Path) -> None:
    # Two images for each of two ranks; where one of them can't be read, both pass over the batch.
    made = configured(of_files(photographs), batch_size=4, learning_rate=0.01)
    found = on_ranks(2, tmp_path / "job", trained_alike, made, str(tmp_path / "run"))
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]) and torch.isfinite(value).all()
    last = rows(tmp_path / "run")[-1]
    assert last["epoch"] == 2 and last["mix/own_weight"] == 1 and last["train/loss"] > 0


def refused(group: Ranks, made: RunConfig) -> str:
    dataset = loaded(made)
    network = without_batch_norm(dataset)
    try:
        loop.train(network, dataset, made, CPU, Path(), quiet, ranks=group)
    except UserError as error:
        return str(error)
    return "nothing"


def test_too_few_images_for_the_ranks(tmp_path: Path) -> None:
    made = configured({"name": "digits", "train_size": 20, "validation_fraction": 0.5})
    said = on_ranks(6, tmp_path, refused, made)
    assert set(said) == {
        "training.devices: got 6, expected at most 5, for two of the 10 training images on each"
    }
