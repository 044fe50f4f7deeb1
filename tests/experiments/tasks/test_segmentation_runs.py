"""Runs of segmentation: masks move and mix as their images do, losses by hand, going on exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixbench.augmentations import create
from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.mask_pictures import soft_masks, tinted
from mixbench.experiments.data.preview_sheets import preview
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.ranks import ALONE
from mixbench.experiments.signals import Stopped
from mixbench.experiments.tasks.base import task_of
from mixbench.experiments.training import loop
from mixbench.experiments.training.inputs import Pixels
from mixbench.experiments.training.random_streams import RandomStreams

CPU = torch.device("cpu")
SIDE, CLASSES = 16, 3


def configured(augmentation: str = "none", **training: Any) -> RunConfig:
    return resolve.parse(
        {
            "task": "segmentation",
            "dataset": {"name": "fashion_scenes", "image_size": 32},
            "model": {"name": "unet", "width": 2},
            "augmentation": augmentation,
            "training": {"epochs": 2, "batch_size": 8, "optimiser": "adamw", **training},
        }
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Images whose pixels are 20 times their class, 255 at seams; objects are blocks of four."""
    random = torch.Generator().manual_seed(0)
    blocks = torch.randint(CLASSES, (20, 4, 4), generator=random, dtype=torch.uint8)
    classes = blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    classes[:, 5] = 255
    objects = torch.arange(16, dtype=torch.uint8).view(4, 4).repeat_interleave(4, 0)
    objects = objects.repeat_interleave(4, 1) * (classes > 0) * (classes < 255)
    images = torch.where(classes == 255, 255, classes * 20).unsqueeze(1)
    split = ArraySplit(images, torch.stack([classes, objects], dim=1))
    # Such that a normalised pixel is its class.
    mean, std = torch.zeros(1), torch.tensor([20 / 255])
    names = ("ground", "a", "b")
    return Dataset("made", names, split, split, split, mean, std, "", "", targets="masks")


class _Learner:
    """What inputs look at."""

    network = torch.nn.Identity()
    layers = None
    device = CPU


@pytest.mark.parametrize("name", ["none", "cutmix", "mosaic", "classmix", "copy_paste"])
def test_masks_move_and_mix_as_their_images_do(name: str, dataset: Dataset) -> None:
    config = configured(name, flip=True, crop_padding=3)
    streams = RandomStreams.seeded(1, CPU, ALONE)
    inputs = Pixels(_Learner(), dataset, config, streams)  # type: ignore[arg-type]
    order = torch.Generator().manual_seed(0)
    changed = 0
    for raw, targets in inputs.epoch(order, start=0, part=(0, 1)):
        _, batch = inputs.mix(create(name), raw, targets, None)  # type: ignore[arg-type]
        mixed: Any = batch.targets
        labels = mixed.labels.gather(1, mixed.weights.argmax(1, keepdim=True))[:, 0]
        shown = batch.images[:, 0].round()
        # What came in from outside is black and ignored, as the seams are.
        inside = labels != 255
        assert torch.equal(shown[inside], labels[inside].float())
        assert set(shown[~inside].tolist()) <= {0.0, 13.0}
        assert (~inside).any() and mixed.weights.sum(1).allclose(torch.ones(()))
        changed += int((labels != targets[:, 0]).sum())
    assert changed


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0]])
def test_the_loss_of_a_mixed_pixel_is_the_weighted_sum(
    weights: list[float] | None, dataset: Dataset
) -> None:
    config = configured("mixup")
    training = config.training.model_copy(
        update={"class_weights": None if weights is None else tuple(weights)}
    )
    task = task_of(config.model_copy(update={"training": training}), dataset, CPU)
    targets = dataset.train.labels[:2, :, :6, :3]
    plan = create("mixup", per_sample=True, pairing="roll").sample(
        (2, 1, 6, 3), generator=torch.Generator().manual_seed(2)
    )
    logits = torch.linspace(-2, 2, 2 * CLASSES * 18).view(2, CLASSES, 6, 3).cos()
    index, shares = plan.sources()
    scale = torch.ones(CLASSES)
    if weights is not None:
        every = dataset.train.labels[:, 0]
        of_pixels = torch.tensor(weights)[every[every != 255].long()]
        scale = torch.tensor(weights) / of_pixels.mean()
    total, counted = 0.0, 0.0
    for sample in range(2):
        for row in range(6):
            for column in range(3):
                chances = logits[sample, :, row, column].log_softmax(0)
                for source, share in zip(index[sample], shares[sample], strict=True):
                    label = int(targets[source, 0, row, column])
                    if label != 255:
                        total -= float(share * scale[label] * chances[label])
                        counted += float(share)
    found = task.loss(task.mix(plan, targets), logits)
    assert float(found) == pytest.approx(total / counted, rel=1e-5)


def test_pictures_show_the_mixed_masks(dataset: Dataset) -> None:
    targets = dataset.train.labels[:2]
    soft = soft_masks(targets, CLASSES)
    counts = targets[:, 0] != 255
    assert torch.equal(soft.argmax(1)[counts].byte(), targets[:, 0][counts])
    shown = tinted(dataset.test.subset(torch.arange(2)).images, soft)
    ground = targets[:, 0] == 0
    assert (shown[:, 0][ground] == 0).all() and (shown[:, 0][targets[:, 0] == 1] == 116).all()
    plain = preview(dataset, {"name": "none"}, rows=1, columns=2)
    assert preview(dataset, {"name": "classmix"}, rows=1, columns=2) != plain


def test_training_goes_on_exactly(tmp_path: Path, dataset: Dataset) -> None:
    config = configured("classmix", class_weights=[0.3, 1, 1, 1, 1])
    training = config.training.model_copy(update={"class_weights": (0.3, 1.0, 1.0)})
    config = config.model_copy(update={"training": training})

    def trained(folder: Path, stopping: Callable[[], bool]) -> tuple[dict[str, Tensor], Any]:
        folder.mkdir(exist_ok=True)
        network = build(config.model, channels=1, classes=CLASSES, size=SIDE, seed=0)
        loop.train(network, dataset, config, CPU, folder, lambda *_, **__: None, stopping=stopping)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        timed = ("time", "images_per_second")
        return network.state_dict(), [
            {name: value for name, value in row.items() if name not in timed} for row in rows
        ]

    weights, rows = trained(tmp_path / "whole", lambda: False)
    assert {"validation/miou", "validation/nll"} <= rows[0].keys()
    asked = iter(range(100))
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", lambda: next(asked) == 4)
    again, rows_again = trained(tmp_path / "parts", lambda: False)
    assert all(torch.equal(weights[name], again[name]) for name in weights) and rows == rows_again


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"augmentation": "snapmix"}, "snapmix can't carry segmentation: .*methods that can: "),
        ({"augmentation": "manifold_mixup"}, "manifold_mixup can't carry segmentation"),
        (
            {"model": {"name": "small_cnn"}},
            "network that gives a map, got small_cnn; .*: unet",
        ),
        ({"model": {"name": "unet", "input_size": 64}}, "model.input_size: got 64"),
        (
            {"dataset": {"name": "fashion_mnist"}},
            "has labels alone; .*fashion_scenes",
        ),
        ({"training": {"crop_scale": [0.5, 1]}}, "masks move with crops by whole pixels"),
        ({"training": {"label_smoothing": 0.1}}, "label_smoothing: got 0.1"),
        (
            {"model": {"name": "timm/resnet18"}, "transfer": {"weights": "hub"}},
            "transfer: got a network of timm with the decoder of segmentation, .* take unet",
        ),
        ({"task": "segmentatoin"}, "segmentatoin.*did you mean 'segmentation'"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], expected: str) -> None:
    section = {
        "task": "segmentation",
        "dataset": {"name": "fashion_scenes"},
        "model": {"name": "unet"},
        **change,
    }
    with pytest.raises(UserError, match=expected) as error:
        resolve.parse(section)
    assert "\n" not in str(error.value)
