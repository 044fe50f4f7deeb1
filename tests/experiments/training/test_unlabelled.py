"""Images without labels: published steps by hand, what is never read, order, resume, refusals."""

from __future__ import annotations

import contextlib
import copy
import functools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mixbench.analysis.statistics.comparison import compare
from mixbench.analysis.tables.labels import plan_labels
from mixbench.analysis.tables.load import load as load_tables
from mixbench.analysis.text.caveats import caveats
from mixbench.augmentations.forward import clean_batch
from mixbench.augmentations.plans.base import Batch, Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.streams import images_beside
from mixbench.experiments.data import load
from mixbench.experiments.data import streams as stream_data
from mixbench.experiments.data.dataset import Dataset, Stream
from mixbench.experiments.data.sets import digits
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.signals import Stopped
from mixbench.experiments.training.learner import Learner
from mixbench.experiments.training.loop import train
from mixbench.experiments.training.unlabelled.batches import StreamBatches
from mixbench.experiments.training.unlabelled.learn import Beside, Unlabelled
from mixbench.experiments.worker.execute import load_run
from tests.support import running

CPU = torch.device("cpu")
PLAIN = {"crop_padding": 0, "flip": False}
RUN: dict[str, Any] = {
    "dataset": {"name": "digits", "train_size": 40, "validation_size": 20},
    "model": {"name": "small_cnn", "width": 2},
    "training": {"epochs": 3, "batch_size": 16, "ema": 0.5},
    "evaluation": {"occlusion": {"shapes": []}},
}


def run_of(algorithm: str, training: Any = (), **parts: Any) -> RunConfig:
    stream = {"algorithm": algorithm, "ratio": 0.5, **parts}
    own = {**RUN["training"], **dict(training)}
    return parse({**RUN, "training": own, "streams": {"unlabelled": stream}})


class Scene:
    """A network that has made a step, its average, a labelled batch and a step beside it."""

    def __init__(self, config: RunConfig, dataset: Dataset, labelled: Batch) -> None:
        self.config, self.dataset, self.labelled = config, dataset, labelled
        classes, is_dense = len(dataset.classes), config.task_info.is_dense
        channels, size, _ = dataset.shape
        network = build(
            config.model, channels=channels, classes=classes, size=size, seed=0, is_dense=is_dense
        )
        self.learner = Learner.of(network, config, CPU)
        assert self.learner.averaging is not None
        # Two updates, after which the average differs from the network and from the start.
        for number in range(2):
            with torch.no_grad():
                for one in network.parameters():
                    one += 0.1 * torch.randn(one.shape)
            self.learner.averaging.update(network, number)
        network.train()
        self.unlabelled = Unlabelled.of(config, dataset, self.learner, ALONE, 12)
        assert self.unlabelled is not None

    @property
    def network(self) -> nn.Module:
        return self.learner.network

    def beside(self, step: int = 6) -> Beside:
        assert self.unlabelled is not None
        return self.unlabelled.beside(step, self.labelled, 1.0)

    def teacher(self) -> Callable[[Tensor], Tensor]:
        """Answer with a copy: batch statistics, no gradients."""
        network = copy.deepcopy(self.network)
        averaging = self.learner.averaging
        stream = self.config.streams and self.config.streams.unlabelled
        if stream and stream.teacher == "ema" and averaging is not None:
            network.load_state_dict(averaging.state())
        network.train()
        return lambda images: network(images).detach().double().softmax(1)

    def plan(self, images: Tensor, answers: Tensor, step: int = 6) -> Plan:
        assert self.unlabelled is not None
        return self.unlabelled._plan(images, step, answers.float())

    def raw(self, step: int = 6) -> Tensor:
        assert self.unlabelled is not None
        again = Unlabelled.of(self.config, self.dataset, self.learner, ALONE, 12)
        assert again is not None
        raw = again._batches.at(step)
        return again._view(raw, step, "weak")

    def check(self, wanted: Callable[[Tensor], Tensor], beside: Beside) -> None:
        """Compare loss and gradients of a step with the one by hand, of float64 probabilities."""
        before = copy.deepcopy(self.learner.state())
        images = torch.cat([beside.labelled.images, beside.images])

        def label_loss(targets: Any, logits: Tensor) -> Tensor:
            return targets.cross_entropy(logits)

        parameters = list(self.network.parameters())
        logits = self.network(images)
        loss = beside.criterion(label_loss)(beside.labelled.targets, logits)
        found = torch.autograd.grad(loss, parameters, retain_graph=True)
        by_hand = wanted(logits.double())
        torch.testing.assert_close(loss.double(), by_hand, rtol=1e-5, atol=1e-6)
        expected = torch.autograd.grad(by_hand, parameters)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
        averaging = self.learner.averaging
        assert averaging is not None
        assert all(one.grad is None for one in averaging.parameters().values())
        torch.testing.assert_close(averaging.state(), before["ema"], rtol=0, atol=0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def scene_of(algorithm: str, **parts: Any) -> Scene:
    config = run_of(algorithm, PLAIN, **parts)
    dataset, _ = load_run(config, CPU, Path())
    images = torch.randn(4, 1, 8, 8)
    return Scene(config, dataset, clean_batch(images, torch.tensor([0, 3, 5, 9]), 10))


def hard(row: Tensor, label: int | Tensor) -> Tensor:
    return -row.log_softmax(0)[int(label)]


def test_fixmatch_is_the_published_step() -> None:
    """Algorithm 1 of Sohn et al. 2020, an image at a time; a mixed one by its sources."""
    scene = scene_of("fixmatch", threshold=0.25, augmentation="cutmix", weight=2)
    beside, weak = scene.beside(), scene.raw()
    buffers = {name: one.clone() for name, one in scene.network.named_buffers()}
    scene.beside()
    torch.testing.assert_close(dict(scene.network.named_buffers()), buffers, rtol=0, atol=0)
    q = scene.teacher()(weak)
    plan = scene.plan(weak, q)
    torch.testing.assert_close(beside.images, plan.mix_images(weak))
    index, share = plan.sources()

    def by_hand(logits: Tensor) -> Tensor:
        supervised = sum(hard(logits[b], y) for b, y in enumerate([0, 3, 5, 9])) / 4
        total = logits.new_zeros(())
        for b in range(8):
            for source, weight in zip(index[b], share[b], strict=True):
                if q[source].max() >= 0.25:
                    total = total + weight * hard(logits[4 + b], q[source].argmax())
        return supervised + 2 * total / 8

    sure = (q.amax(1) >= 0.25).double().mean()
    assert 0 < sure < 1 and float(beside.confident) == pytest.approx(float(sure))
    scene.check(by_hand, beside)


def test_mixmatch_is_the_published_step() -> None:
    """Algorithm 1 of Berthelot et al. 2019: guess, sharpen, MixUp near oneself, squares."""
    scene = scene_of("mixmatch", weight=3, ramp_up=1.0)
    beside, raw = scene.beside(), scene.raw()
    answer = scene.teacher()(raw)  # Both views are the same without crops and flips.
    powers = answer ** (1 / 0.5)
    guessed = powers / powers.sum(1, keepdim=True)
    one_hot = torch.eye(10, dtype=torch.float64)[torch.tensor([0, 3, 5, 9])]
    images = torch.cat([scene.labelled.images, raw, raw])
    targets = torch.cat([one_hot, guessed, guessed])
    plan = scene.plan(images, targets)
    assert isinstance(plan, Blend) and plan.partner is not None
    share = torch.maximum(plan.keep, 1 - plan.keep).view(-1).double()
    assert share.unique().numel() == 20 and plan.partner.sort()[0].tolist() == list(range(20))
    partner = plan.partner
    mixed = torch.stack(
        [s * images[i] + (1 - s) * images[int(partner[i])] for i, s in enumerate(share)]
    )
    p = torch.stack(
        [s * targets[i] + (1 - s) * targets[int(partner[i])] for i, s in enumerate(share)]
    )
    found = torch.cat([beside.labelled.images, beside.images])
    torch.testing.assert_close(found, mixed.float())

    def by_hand(logits: Tensor) -> Tensor:
        chances = logits.softmax(1)
        supervised = -(p[:4] * logits[:4].log_softmax(1)).sum() / 4
        squared = sum(((p[b] - chances[b]) ** 2).sum() for b in range(4, 20))
        return supervised + 3 * (6 / 12) * squared / (10 * 16)

    scene.check(by_hand, beside)


def test_ict_is_the_published_step() -> None:
    """Algorithm 1 of Verma et al. 2019: the mean teacher's answers, interpolated."""
    scene = scene_of("ict", weight=5, ramp_up=0.75)
    beside, u = scene.beside(), scene.raw()
    answers = scene.teacher()(u)
    plan = scene.plan(u, answers)
    assert isinstance(plan, Blend) and plan.partner is not None
    keep, partner = plan.keep.view(-1).double(), plan.partner

    def by_hand(logits: Tensor) -> Tensor:
        supervised = sum(hard(logits[b], y) for b, y in enumerate([0, 3, 5, 9])) / 4
        total = logits.new_zeros(())
        for b in range(8):
            fake = keep[b] * answers[b] + (1 - keep[b]) * answers[int(partner[b])]
            total = total + ((logits[4 + b].softmax(0) - fake) ** 2).mean() / 8
        return supervised + 5 * np.exp(-5 * (1 - 6 / 9) ** 2) * total

    scene.check(by_hand, beside)


@pytest.mark.parametrize("algorithm", ["mean_teacher", "pseudo_labels"])
def test_maps_are_learned_by_the_published_steps(algorithm: str) -> None:
    """French et al. 2020 (CutMix-Seg) and Olsson et al. 2021 (ClassMix), pixel by pixel."""
    mixing = {"mean_teacher": "cutmix", "pseudo_labels": "classmix"}[algorithm]
    stream = {"algorithm": algorithm, "threshold": 0.7, "ratio": 1, "augmentation": mixing}
    config = parse(
        {
            "task": "segmentation",
            "dataset": {"name": "fashion_scenes", "train_size": 4, "image_size": 32},
            "model": {"name": "unet", "width": 2},
            "training": {"batch_size": 4, "ema": 0.5, **PLAIN},
            "streams": {"unlabelled": stream},
        }
    )
    raw = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
    masks = torch.randint(0, 3, (4, 2, 32, 32), dtype=torch.uint8)
    split = ArraySplit(raw, masks)
    beside_it = {"unlabelled": Stream("made", stream_data.without_labels(split), "")}
    of_pixels = torch.tensor([0.5]), torch.tensor([0.3])
    dataset = Dataset("made", ("a", "b", "c"), split, split, split, *of_pixels, "", "")
    dataset = replace(dataset, targets="masks", streams=beside_it)
    plain = clean_batch(torch.randn(2, 1, 32, 32), torch.zeros(2, dtype=torch.int64), 3)
    dense = plain.plan.mix_dense(masks[:2, 0])
    scene = Scene(config, dataset, Batch(plain.images, dense, plain.plan))  # type: ignore[arg-type]
    beside, weak = scene.beside(), scene.raw()
    answers = scene.teacher()(weak)
    plan = scene.plan(weak, answers)
    torch.testing.assert_close(beside.images, plan.mix_images(weak))
    # Of pixels that are pasted whole, mixing is a choice: it tells the source of each.
    number = torch.arange(4.0).view(4, 1, 1, 1).expand(-1, -1, 32, 32).contiguous()
    source = plan.mix_masks(number).squeeze(1).long()
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    mixed = torch.stack([answers[source[b], :, rows, columns].permute(2, 0, 1) for b in range(4)])
    if algorithm == "mean_teacher":
        sure = (mixed.amax(1) >= 0.7).double().mean()
    else:
        sure = (answers.amax(1) >= 0.7).double().mean()
    assert 0 < sure < 1, answers.amax(1).quantile(0.5)

    def by_hand(logits: Tensor) -> Tensor:
        truth = masks[:2, 0].long()
        supervised = -logits[:2].log_softmax(1).gather(1, truth[:, None]).mean()
        if algorithm == "mean_teacher":
            consistency = ((logits[2:].softmax(1) - mixed) ** 2).sum(1).mean()
        else:
            labels = mixed.argmax(1, keepdim=True)
            consistency = -logits[2:].log_softmax(1).gather(1, labels).mean()
        return supervised + sure * consistency

    scene.check(by_hand, beside)


def test_every_image_comes_once_a_pass_and_a_step_is_the_same_from_anywhere() -> None:
    images = torch.arange(25, dtype=torch.uint8).view(25, 1, 1, 1)
    split = ArraySplit(images, torch.full((25,), -1))

    def batches(part: tuple[int, int] = (0, 1), seed: int = 0) -> StreamBatches:
        return StreamBatches("unlabelled", split, 8, seed, part)

    whole = batches()
    steps = [whole.at(step).flatten().tolist() for step in range(9)]
    for first in (0, 3, 6):
        assert len({one for step in steps[first : first + 3] for one in step}) == 24
    assert steps[:3] != steps[3:6] and steps != [
        batches(seed=1).at(step).flatten().tolist() for step in range(9)
    ]
    for step in (0, 2, 3, 7):
        assert batches().at(step).flatten().tolist() == steps[step]
        parts = [batches((number, 3)).at(step).flatten().tolist() for number in range(3)]
        assert [one for part in parts for one in part] == steps[step]


@pytest.mark.parametrize(
    "config",
    [
        run_of("fixmatch", augmentation="cutmix", teacher="ema", threshold=0.0),
        run_of("mixmatch"),
    ],
    ids=["fixmatch", "mixmatch"],
)
def test_labels_are_never_read_and_a_stopped_run_ends_the_same(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time, all labels but those that train and validate are other ones."""
    arrays = digits.DATASET.read(digits.DATASET.find() or digits.DATASET.fetch())
    chosen = digits.DATASET.choose(config.dataset, arrays.train_labels)
    poisoned = (arrays.train_labels + 1 + np.arange(len(arrays.train_labels)) % 9) % 10
    for part in chosen:
        poisoned[part] = arrays.train_labels[part]
    states = []
    for number, labels in enumerate((arrays.train_labels, poisoned)):
        folder = tmp_path / str(number)
        folder.mkdir()
        load.load_once.cache_clear()
        stream_data._load.cache_clear()
        whole = replace(arrays, train_labels=labels)
        with monkeypatch.context() as patch:
            patch.setattr(load, "_read", lambda *_, whole=whole: whole)
            # Which images get labels is drawn by class: by the true ones both times.
            patch.setattr(load, "_strata", lambda _: arrays.train_labels)
            for stop in [True, True, False][2 - 2 * number :]:
                dataset, network = load_run(config, CPU, tmp_path)
                assert (dataset.streams["unlabelled"].split.labels == -1).all()
                stopping = functools.partial(next, iter([False] * 3 + [stop]), False)
                with running.one_thread(), contextlib.suppress(Stopped):
                    train(network, dataset, config, CPU, folder, lambda *_, **__: None, stopping)
        states.append(network.state_dict())
    load.load_once.cache_clear()
    stream_data._load.cache_clear()
    assert '"unlabelled/confident": ' in (tmp_path / "1" / "metrics.jsonl").read_text()
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_what_is_left_is_neither_trained_nor_validated_nor_tested_on() -> None:
    config = run_of("fixmatch", size=100)
    dataset, _ = load_run(config, CPU, Path())
    whole, _ = load_run(run_of("fixmatch"), CPU, Path())

    def seen(split: Any) -> set[bytes]:
        return {one.numpy().tobytes() for one in split.images}

    rest = seen(whole.streams["unlabelled"].split)
    assert len(rest) > 1000 and seen(dataset.streams["unlabelled"].split) < rest
    for split in (dataset.train, dataset.validation, dataset.test):
        assert not seen(split) & rest


def test_an_unlabelled_set_that_holds_test_images_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for folder, split, count in (("own", "train", 6), ("own", "test", 2), ("more", "train", 8)):
        for name in ("a", "b"):
            path = tmp_path / folder / split / name
            path.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / f"{number}.png")
    stream = {"algorithm": "fixmatch", "dataset": f"imagefolder:{tmp_path}/more", "ratio": 2}
    raw = {
        "dataset": {"name": f"imagefolder:{tmp_path}/own", "image_size": 16},
        "training": {"batch_size": 4, "crop": "none"},
        "streams": {"unlabelled": stream},
    }
    dataset, _ = load_run(parse(raw), CPU, tmp_path)
    assert len(dataset.streams["unlabelled"].split) == 16
    shown = tmp_path / "own/test/a/0.png"
    (tmp_path / "more/train/b/again.png").write_bytes(shown.read_bytes())
    stream_data._load.cache_clear()
    with pytest.raises(UserError, match=r"^streams.unlabelled.dataset: .*more: holds 1 of the 4 t"):
        load_run(parse(raw), CPU, tmp_path)
    # Grey labelled images, and the same test image in colour: compared as the network sees them.
    shutil.copytree(tmp_path / "own", tmp_path / "grey")
    for path in (tmp_path / "grey").rglob("*.png"):
        Image.open(path).convert("L").save(path)
    shown = tmp_path / "grey/test/a/0.png"
    Image.open(shown).convert("RGB").save(tmp_path / "more/train/b/again.png")
    raw["dataset"] = {**raw["dataset"], "name": f"imagefolder:{tmp_path}/grey"}
    stream_data._load.cache_clear()
    with pytest.raises(UserError, match=r"^streams.unlabelled.dataset: .*more: holds 1 of the 4 t"):
        load_run(parse(raw), CPU, tmp_path)


@pytest.mark.usefixtures("runs")
def test_a_sweep_says_what_was_beside_its_labelled_images() -> None:
    stream = {"algorithm": "fixmatch", "threshold": 0.0, "ratio": 2, "augmentation": "cutmix"}
    tuned = {**stream, "threshold": 0.5}
    grid = {"streams.unlabelled": [{"algorithm": None}, stream, tuned]}
    baseline = {"streams.unlabelled.algorithm": None}
    folder = running.planned(
        {"name": "semi", "fixed": RUN, "grid": grid, "baseline": baseline, "seeds": [0]}
    )
    plan = folder.plan()
    names = plan_labels(plan)
    assert [names[run.cell_key] for run in plan] == [
        "labels alone",
        "fixmatch cutmix threshold=0",
        "fixmatch cutmix threshold=0.5",
    ]
    assert running.work(folder, "w") == 3
    alone, fixmatch, _ = (run.folder.result() or {} for run in plan)
    assert fixmatch["metrics"]["unlabelled/confident"] == 1
    assert fixmatch["dataset"]["unlabelled"] == 1438 - 40 - 20
    assert "unlabelled/confident" not in alone["metrics"] and "unlabelled" not in alone["dataset"]
    assert images_beside(plan[1].config["streams"]) == 2 and images_beside(None) == 0
    # A run without a stream lacks nothing.
    tables = load_tables(folder)
    warnings = caveats(compare(tables.cells, tables.runs), tables.runs, {})
    assert not any("undefined" in warning for warning in warnings)


def test_unset_the_key_is_the_old_one_and_each_setting_is_another() -> None:
    def key(stream: Any) -> str:
        return parse({**RUN, "streams": stream}).run_key

    old = parse(RUN).run_key
    assert key(None) == key({}) == key({"unlabelled": None}) == old
    assert key({"unlabelled": {"algorithm": None, "ratio": 3}}) == old
    plain = run_of("fixmatch")
    assert plain.run_key == run_of("fixmatch", weight=1, threshold=0.95, dataset="digits").run_key
    others = [
        {"ratio": 2},
        {"weight": 2},
        {"threshold": 0.5},
        {"teacher": "ema"},
        {"size": 50},
        {"dataset": "mnist_5k"},
        {"augmentation": "cutmix"},
        {"augmentation": {"name": "cutmix", "alpha": 0.2}},
        {"ramp_up": 0.1},
    ]
    keys = {run_of("fixmatch", **other).run_key for other in others}
    assert len(keys | {old, plain.run_key, run_of("ict").run_key}) == len(others) + 3


@pytest.mark.parametrize(
    ("algorithm", "stream", "parts", "said"),
    [
        ("fixmatsch", {}, {}, "streams.unlabelled.algorithm: got 'fixmatsch'"),
        ("fixmatch", {"treshold": 0.9}, {}, "did you mean 'threshold'"),
        ("fixmatch", {"temperature": 0.5}, {}, "fixmatch has none; it is for mixmatch"),
        ("fixmatch", {"dataset": "digit"}, {}, "did you mean 'digits'"),
        ("fixmatch", {"size": 5000}, {}, "at least 5000 unlabelled images"),
        ("fixmatch", {"augmentation": "cutmx"}, {}, "did you mean 'cutmix'"),
        ("fixmatch", {"augmentation": "classmix"}, {}, "classmix asks for masks"),
        ("fixmatch", {"augmentation": "manifold_mixup"}, {}, "mixes inside the network"),
        ("mixmatch", {"augmentation": "cutmix"}, {}, "mixmatch mixes with mixup"),
        ("pseudo_labels", {}, {}, "pseudo_labels is for segmentation"),
        ("ict", {}, {"training.ema": None}, "streams.unlabelled.teacher: got ema"),
        ("ict", {}, {"dataset.train_size": None}, "all training images have labels"),
        ("ict", {}, {"augmentation": "augmix"}, "augmix has a loss of its own"),
        ("mixmatch", {}, {"augmentation": "cutmix"}, "would mix twice"),
        ("ict", {}, {"training.gradient_noise": {"every": 1}}, "training.gradient_noise: can't"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    algorithm: str, stream: dict[str, Any], parts: dict[str, Any], said: str
) -> None:
    raw = {**RUN, "streams": {"unlabelled": {"algorithm": algorithm, **stream}}}
    for name, value in parts.items():
        section, _, field = name.partition(".")
        raw[section] = {**raw.get(section, {}), field: value} if field else value
    with pytest.raises(UserError) as caught:
        parse(raw)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_ranks_take_parts_of_every_batch_with_views_of_their_own() -> None:
    """The mean over two ranks of loss times share is the mean over all images."""

    class Two(Ranks):
        size = 2

        def __init__(self, rank: int) -> None:
            self.rank = rank

    scene = scene_of("fixmatch", threshold=0.0)
    weights, images = [], []
    for rank in (0, 1):
        made = Unlabelled.of(scene.config, scene.dataset, scene.learner, Two(rank), 12)
        assert made is not None
        # Of the labelled images, rank 0 has three of four.
        beside = made.beside(6, scene.labelled, [1.5, 0.5][rank])
        weights.append(beside.weight * [1.5, 0.5][rank])
        images.append(beside.images)
    assert weights == [1.0, 1.0]
    torch.testing.assert_close(torch.cat(images), scene.raw())
