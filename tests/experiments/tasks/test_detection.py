"""Detection: boxes by counted pixels, losses by hand, mAP against pycocotools, exact resuming."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from mixbench.augmentations import available, create
from mixbench.augmentations.box_targets import BoxTargets
from mixbench.experiments.cli.prepare import check_runs
from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.box_pictures import outlined
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.object_rows import Objects, object_rows
from mixbench.experiments.data.pictures import mixed_strip
from mixbench.experiments.data.preview_sheets import preview
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.design import tasks
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.models.detectors.fcos import FCOS
from mixbench.experiments.models.detectors.ssd import SSD, _decoded, _encoded
from mixbench.experiments.models.networks.small_fcos import SmallFCOS
from mixbench.experiments.ranks import ALONE, Ranks, turns
from mixbench.experiments.signals import Stopped
from mixbench.experiments.sweep.expand import expand
from mixbench.experiments.tasks.base import task_of
from mixbench.experiments.tasks.detection.scores import average_precisions
from mixbench.experiments.training import loop
from mixbench.experiments.training.inputs import Pixels
from mixbench.experiments.training.random_streams import RandomStreams

CPU = torch.device("cpu")
SIDE, ROOM, CLASSES = 24, 3, 2


def configured(augmentation: Any = "none", **training: Any) -> RunConfig:
    return resolve.parse(
        {
            "task": "detection",
            "dataset": {"name": "fashion_scenes", "image_size": 32},
            "model": {"name": "small_fcos", "width": 4},
            "augmentation": augmentation,
            "training": {"epochs": 2, "batch_size": 8, "optimiser": "adamw", **training},
        }
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Images of up to three rectangles in quarters of their own; every object has its own grey."""
    random = np.random.default_rng(0)
    count = 16
    images = np.zeros((count, 1, SIDE, SIDE), dtype=np.uint8)
    maps = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
    boxes = np.zeros((count, ROOM, 4), dtype=np.int64)
    labels = random.integers(CLASSES, size=(count, ROOM))
    labels[::3, 2] = -1
    for image in range(count):
        for number in range(ROOM):
            if labels[image, number] < 0:
                continue
            corner = np.array([12 * (number % 2), 12 * (number // 2)])
            left, top = corner + random.integers(5, size=2)
            right, bottom = np.array([left, top]) + random.integers(3, 8, size=2)
            boxes[image, number] = left, top, right, bottom
            images[image, 0, top:bottom, left:right] = 1 + ROOM * image + number
            maps[image, top:bottom, left:right] = number + 1
    visible = np.where(np.arange(ROOM) == 1, 0.8, 1.0).astype(np.float32)
    rows = object_rows(boxes, labels, np.tile(visible, (count, 1)), maps)
    split = ArraySplit(torch.from_numpy(images), torch.from_numpy(rows))
    mean, std = torch.zeros(1), torch.tensor([1 / 255])
    return Dataset("made", ("a", "b"), split, split, split, mean, std, "", "", targets="boxes")


class _Learner:
    """What inputs look at."""

    network = torch.nn.Identity()
    layers = None
    device = CPU


@pytest.mark.parametrize("name", ["none", "cutmix", "mosaic", "copy_paste"])
def test_boxes_move_and_mix_as_their_images_do(name: str, dataset: Dataset) -> None:
    """The oracle counts the pixels of each object's grey: in the batch, moved, and mixed."""
    config = configured(flip=True, crop_padding=3)
    streams = RandomStreams.seeded(1, CPU, ALONE)
    inputs = Pixels(_Learner(), dataset, config, streams)  # type: ignore[arg-type]
    changed = 0
    for raw, targets in inputs.epoch(torch.Generator().manual_seed(0), start=0, part=(0, 1)):
        _, batch = inputs.mix(create(name), raw, targets, None)  # type: ignore[arg-type]
        mixed: Any = batch.targets
        shown, labels = batch.images[:, 0].round(), Objects.of(targets, (SIDE, SIDE)).labels
        expected = []
        for number in range(len(raw)):
            for grey in set(shown[number].unique().tolist()) - {0.0}:
                source = next(i for i in range(len(raw)) if (raw[i] == grey).any())
                label = int(labels[source, (int(grey) - 1) % ROOM])
                seen, whole = int((shown[number] == grey).sum()), int((raw == grey).sum())
                rows, columns = (shown[number] == grey).nonzero(as_tuple=True)
                box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                if seen >= whole / 10:
                    expected.append((number, source, label, *map(int, box)))
        found = zip(
            mixed.sample.tolist(),
            mixed.source.tolist(),
            mixed.labels.tolist(),
            *mixed.boxes.T.long().tolist(),
            strict=True,
        )
        assert sorted(expected) == sorted(found)
        assert (mixed.weights == 1).all()
        changed += int((mixed.sample != mixed.source).sum())
    assert changed or name == "none"


def test_boxes_weigh_what_mixing_leaves_and_losses_are_weighted_sums(dataset: Dataset) -> None:
    task = task_of(configured(), dataset, CPU)
    targets = dataset.train.labels[:2]
    plan = create("mixup", pairing="roll").sample(
        (2, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1)
    )
    index, shares = plan.sources()
    own = float(shares[0][index[0] == 0].sum())
    assert 0.05 < own < 0.95
    outputs = torch.linspace(-3, 2, 2 * (4 + CLASSES) * 36).sin().view(2, 4 + CLASSES, 6, 6)
    detector = FCOS((SIDE, SIDE), CLASSES)

    def parts(one: Any) -> tuple[float, float]:
        total, weight = detector.parts(outputs, one)
        return float(total), float(weight)

    mixed = parts(task.mix(plan, targets))
    alone = parts(task.mix(create("none").sample((2, 1, SIDE, SIDE)), targets))
    other = parts(task.mix(create("none").sample((2, 1, SIDE, SIDE)), targets.flip(0)))
    expected = [own * a + (1 - own) * b for a, b in zip(alone, other, strict=True)]
    assert mixed == pytest.approx(tuple(expected), rel=1e-5)
    assert float(task.loss(task.mix(plan, targets), outputs)) == pytest.approx(
        mixed[0] / mixed[1], rel=1e-5
    )


@torch.no_grad()
def test_the_loss_of_ssd_is_torchvisions() -> None:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large
    from torchvision.models.detection.image_list import ImageList

    config = configured().model.model_copy(update={"name": "ssdlite", "width": None})
    network: Any = build(config, channels=1, classes=CLASSES, size=64, seed=0)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    whole: Any = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1
    )
    whole.backbone, whole.head = network.backbone.eval(), network.head.eval()
    boxes = torch.tensor([[5.0, 6, 40, 30], [30, 30, 60, 64], [10, 2, 30, 50]])
    sample, labels = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    mixed = BoxTargets(2, sample, sample, boxes, labels, torch.ones(3))
    outputs = network(images)
    detector = SSD((64, 64), CLASSES)
    total, weight = detector.parts(outputs, mixed)
    assert int(weight) >= 3
    maps = list(whole.backbone(images.repeat(1, 3, 1, 1)).values())
    places = whole.anchor_generator(ImageList(images, [(64, 64)] * 2), maps)
    given = [{"boxes": boxes[sample == n], "labels": labels[sample == n] + 1} for n in (0, 1)]
    matched = [
        whole.proposal_matcher(box_iou(one["boxes"], place))
        for one, place in zip(given, places, strict=True)
    ]
    expected = whole.compute_loss(given, whole.head(maps), places, matched)
    assert float(total / weight) == pytest.approx(
        float(expected["bbox_regression"] + expected["classification"]), rel=1e-4
    )
    # What is said of an object is what is found.
    found, scores = detector.candidates(outputs)
    assert found.shape[1] == places[0].shape[0] and scores.shape[2] == CLASSES
    sides = _encoded(boxes[:1].expand_as(places[0]), places[0])
    assert torch.allclose(_decoded(sides, places[0]), boxes[:1].expand_as(places[0]), atol=1e-3)


def test_the_loss_by_hand() -> None:
    """One object of 8 x 8 pixels in the middle of 16 x 16: four places find it."""
    box = torch.tensor([[4.0, 4.0, 12.0, 12.0]])
    one, label = torch.zeros(1, dtype=torch.int64), torch.tensor([1])
    targets = BoxTargets(1, one, one, box, label, torch.tensor([0.5]))
    outputs = torch.zeros(1, 4 + CLASSES, 4, 4)
    total, weight = FCOS((16, 16), CLASSES).parts(outputs, targets)
    # At logits of 0 a class that is there costs 0.25 / 4 log 2, one that isn't 0.75 / 4 log 2; each
    # of the four places is half there.
    log2 = float(torch.tensor(2.0).log())
    classes = (28 * 0.75 + 4 * 0.5) / 4 * log2
    # Sides of one stride: 8 x 8 around the places, 2 off either way: 36 of 92 in common.
    giou = 36 / 92 - (100 - 92) / 100
    assert float(weight) == 2.0
    assert float(total) == pytest.approx(classes + 2 * 4 * 0.5 * (1 - giou), rel=1e-5)
    nothing = BoxTargets(1, one[:0], one[:0], box[:0], label[:0], torch.zeros(0))
    assert FCOS((16, 16), CLASSES).loss(outputs, nothing).isfinite()


def test_scores_of_hand_cases_perfect_and_random_predictors() -> None:
    random = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 40, (80, 2, 2), generator=random).float()
    boxes = torch.cat([corners, corners + 10], dim=-1)
    boxes[:, 1, ::2] += 60  # apart
    labels = torch.randint(CLASSES, (80, 2), generator=random)
    visible = torch.tensor([1.0, 0.5]).expand(80, 2)
    truth = Objects(boxes, labels, visible, None)
    scores = torch.rand(80, 2, 1, generator=random).clamp(min=0.1)
    perfect = torch.cat([boxes, scores, labels.unsqueeze(-1).float()], dim=-1)
    assert list(average_precisions(perfect, truth).values()) == pytest.approx([1.0] * 4)
    # Each box with each class, surely or not by chance: half of what is found is right.
    both = torch.cat([perfect, perfect], dim=1)
    both[:, 2:, 5] = 1 - both[:, 2:, 5]
    both[..., 4] = torch.rand(80, 4, generator=random).clamp(min=0.1)
    by_chance = average_precisions(both, truth)
    assert by_chance["map50"] == pytest.approx(0.5, abs=0.08) and by_chance["recall"] == 1
    elsewhere = perfect.clone()
    elsewhere[..., :4] += 200
    assert set(average_precisions(elsewhere, truth).values()) == {0.0}
    # Those that are hidden alone are missed: their recall is 0, half of all.
    missed = perfect.clone()
    missed[:, 1, 4] = 0
    found = average_precisions(missed, truth)
    assert found["map50_hidden"] == 0 and found["recall"] == pytest.approx(0.5, abs=0.02)
    # 10 x 10 shifted by 2 overlaps by 80 of 120: right up to 0.65, at 4 of 10 thresholds.
    shifted = perfect.clone()
    shifted[..., 0:4:2] += 2
    found = average_precisions(shifted, truth)
    assert found["map50"] == pytest.approx(1) and found["map"] == pytest.approx(0.4)
    nobody = average_precisions(perfect, Objects(boxes, labels * 0 - 1, visible, None))
    assert set(nobody.values()) == {None}
    found = average_precisions(perfect, Objects(boxes, labels, visible * 0 + 1, None))
    assert found["map"] == pytest.approx(1) and found["map50_hidden"] is None


def test_scores_are_those_of_pycocotools() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    random = torch.Generator().manual_seed(1)
    corners = torch.rand(30, 3, 2, generator=random) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(30, 3, 2, generator=random) * 20], -1)
    labels = torch.randint(-1, CLASSES, (30, 3), generator=random)
    visible = torch.rand(30, 3, generator=random).round()
    found = torch.zeros(30, 4, 6)
    found[:, :3, :4] = boxes + torch.randn(30, 3, 4, generator=random)
    found[:, 3, :4] = found[:, 0, :4] + 3
    found[..., 4] = torch.rand(30, 4, generator=random)
    found[..., 5] = torch.randint(CLASSES, (30, 4), generator=random)
    images = [{"id": number} for number in range(30)]
    kinds = [{"id": number} for number in range(CLASSES)]

    def row(image: int, box: Tensor, label: int, **more: Any) -> dict[str, Any]:
        x1, y1, x2, y2 = box.tolist()
        sides = [x1, y1, x2 - x1, y2 - y1]
        return {"image_id": image, "bbox": sides, "category_id": label, **more}

    expected = {}
    for name, ignores in (("every", False), ("hidden", True)):
        truth = [
            row(i, boxes[i, j], int(labels[i, j]), id=1 + 3 * i + j, area=1.0)
            | {"iscrowd": int(ignores and visible[i, j] == 1)}
            for i in range(30)
            for j in range(3)
            if labels[i, j] >= 0
        ]
        given = [
            row(i, found[i, j, :4], int(found[i, j, 5]), score=float(found[i, j, 4]))
            for i in range(30)
            for j in range(4)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = {"images": images, "annotations": truth, "categories": kinds}
            coco.createIndex()
            judged = COCOeval(coco, coco.loadRes(given), "bbox")
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
        expected[name] = judged.stats
    assert average_precisions(found, Objects(boxes, labels, visible, None)) == pytest.approx(
        {
            "map50": expected["every"][1],
            "map": expected["every"][0],
            "map50_hidden": expected["hidden"][1],
            "recall": expected["every"][8],
        },
        abs=1e-6,
    )


class _OneOfTwo(Ranks):
    """One of two ranks; rank 0 has what the other one sent."""

    size = 2

    def __init__(self, rank: int, others: list[Any]) -> None:
        self.rank, self.others = rank, others

    def interleave(self, items: list[Any]) -> list[Any]:
        if self.leads:
            return turns([items, self.others])
        self.others.extend(items)
        return items


def test_the_size_of_the_network_is_what_its_page_says() -> None:
    network = SmallFCOS(1, 4, 12)
    assert sum(one.numel() for one in network.parameters()) == 87_572
    assert network(torch.zeros(1, 1, 50, 70)).shape == (1, 8, 13, 18)


def test_two_ranks_measure_the_same(dataset: Dataset) -> None:
    task = task_of(configured(), dataset, CPU)
    network = build(task.config.model, channels=1, classes=CLASSES, size=SIDE, seed=0)
    with torch.no_grad():
        network.classifier.bias.zero_()  # type: ignore[union-attr,operator]

    def batches(part: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
        return [(raw.float(), rows) for raw, rows in dataset.test.batches(4, part=part)]

    alone, kept = task.measure_split(network, batches((0, 1)))

    sent: list[Any] = []
    assert task.measure_split(network, batches((1, 2)), _OneOfTwo(1, sent)) == ({}, {})
    both, kept_of_both = task.measure_split(network, batches((0, 2)), _OneOfTwo(0, sent))
    assert both == alone and np.array_equal(kept["detections"], kept_of_both["detections"])
    assert (kept["detections"][..., 4] > 0).any()


def test_training_goes_on_exactly(tmp_path: Path, dataset: Dataset) -> None:
    config = configured({"name": "compose", "methods": ["mixup", "copy_paste"]}, flip=True)

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
    assert {"validation/map50", "validation/map"} <= rows[0].keys()
    asked = iter(range(100))
    with pytest.raises(Stopped):
        trained(tmp_path / "parts", lambda: next(asked) == 3)
    again, rows_again = trained(tmp_path / "parts", lambda: False)
    assert all(torch.equal(weights[name], again[name]) for name in weights) and rows == rows_again


def test_pictures_show_boxes(dataset: Dataset) -> None:
    targets = BoxTargets(
        images=1,
        sample=torch.tensor([0]),
        source=torch.tensor([0]),
        boxes=torch.tensor([[1.0, 1.0, 5.0, 4.0]]),
        labels=torch.tensor([0]),
        weights=torch.tensor([0.5]),
    )
    shown = outlined(torch.full((1, 1, 6, 6), 100), targets)
    coloured = (shown[0, 0] == 156).int().tolist()
    assert (
        coloured
        == [[0] * 6, [0, 1, 1, 1, 1, 0], [0, 1, 0, 0, 1, 0], [0, 1, 1, 1, 1, 0]] + [[0] * 6] * 2
    )
    plain = preview(dataset, {"name": "none"}, rows=1, columns=2)
    assert preview(dataset, {"name": "copy_paste"}, rows=1, columns=2) != plain
    assert mixed_strip(dataset, {"name": "mosaic", "prob": 1.0})[:4] == b"\x89PNG"


def test_methods_carry_boxes_or_are_refused(dataset: Dataset) -> None:
    task, refused = task_of(configured(), dataset, CPU), tasks.info("detection").refused_methods
    rows = dataset.train.labels[:4]
    images = torch.rand(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for name in available():
        method = create(name)
        if name in refused or method.needs & {"model", "bank"}:
            continue
        masks = task.masks(method, rows)
        given = {"images": images, "masks": masks, "normalisation": (0, 1)}
        wanted = {key: value for key, value in given.items() if key in method.needs}
        plan = method.sample(images.shape, generator=torch.Generator().manual_seed(0), **wanted)
        assert task.mix(plan, rows).images == 4, name


def test_what_measures_is_asked_for_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    section = configured().model_dump(mode="json", exclude_none=True)
    fixed = {name: section[name] for name in ("task", "model")}
    fixed["dataset"] = {"name": "fashion_scenes", "image_size": 32, "train_size": 300}
    sweep = expand({"name": "s", "fixed": fixed, "seeds": [0]})
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="detection needs faster_coco_eval for its metrics"):
        check_runs(sweep)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"augmentation": "snapmix"},
            "snapmix can't carry detection: .*that can: .*cutmix",
        ),
        ({"augmentation": "manifold_mixup"}, "manifold_mixup can't carry detection"),
        ({"model": {"name": "unet"}}, "network that gives boxes, got unet; .*: small_fcos"),
        ({"model": {"name": "timm/resnet18"}}, "gives boxes, got timm/resnet18"),
        ({"model": {"name": "small_fcos", "input_size": 64}}, "model.input_size: got 64"),
        ({"dataset": {"name": "fashion_mnist"}}, "has labels alone; .*fashion_scenes"),
        ({"training": {"crop_scale": [0.5, 1]}}, "boxes move with crops by whole pixels"),
        ({"training": {"label_smoothing": 0.1}}, "label_smoothing: got 0.1"),
        ({"task": "detektion"}, "detektion.*did you mean 'detection'"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], expected: str) -> None:
    section = {
        "task": "detection",
        "dataset": {"name": "fashion_scenes"},
        "model": {"name": "small_fcos"},
        **change,
    }
    with pytest.raises(UserError, match=expected) as error:
        resolve.parse(section)
    assert "\n" not in str(error.value)
