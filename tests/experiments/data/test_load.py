import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets
import torch

from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.dataset import statistics
from mixbench.experiments.data.fetch import available_offline
from mixbench.experiments.data.load import load
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.errors import UserError

needs_fashion = pytest.mark.skipif(
    not available_offline("fashion_mnist"), reason="Fashion-MNIST is not on this machine"
)


def everything(split):
    return torch.cat([images for images, _ in split.batches(500)])


def rows(split):
    return {bytes(image.numpy()) for image in everything(split)}


@needs_fashion
def test_fashion_mnist_whole():
    dataset = load(DatasetConfig(name="fashion_mnist"))
    sizes = [len(split) for split in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [54_000, 6_000, 10_000]
    assert dataset.shape == (1, 28, 28)
    assert len(dataset.classes) == 10 and dataset.classes[9] == "Ankle boot"
    assert torch.bincount(dataset.validation.labels).tolist() == [600] * 10
    assert torch.bincount(dataset.test.labels).tolist() == [1000] * 10
    # The published first test images: an ankle boot, a pullover, two pairs of trousers.
    assert dataset.test.labels[:4].tolist() == [9, 2, 1, 1]
    # Against the well-known 0.2860 and 0.3530 of the 60,000.
    assert dataset.mean.item() == pytest.approx(0.2860, abs=5e-4)
    assert dataset.std.item() == pytest.approx(0.3530, abs=5e-4)
    assert len(dataset.digest) == 16


@needs_fashion
def test_fashion_mnist_small_is_stratified_nested_and_reproducible():
    small = load(DatasetConfig(name="fashion_mnist", train_size=2000))
    again = load(DatasetConfig(name="fashion_mnist", train_size=2000))
    large = load(DatasetConfig(name="fashion_mnist", train_fraction=0.1))
    other = load(DatasetConfig(name="fashion_mnist", train_size=2000, split_seed=1))
    assert torch.bincount(small.train.labels).tolist() == [180] * 10
    assert (len(large.train), len(large.validation)) == (5400, 600)
    assert small.digest == again.digest
    assert len({small.digest, large.digest, other.digest}) == 3
    assert torch.equal(everything(small.test), everything(other.test))
    assert rows(small.train) < rows(large.train)
    assert rows(small.validation) < rows(large.validation)
    assert not rows(small.train) & rows(small.validation)


def test_digits():
    dataset = load(DatasetConfig(name="digits"))
    assert len(dataset.train) + len(dataset.validation) == datasets.info("digits").train == 1438
    assert len(dataset.test) == datasets.info("digits").test == 359
    assert dataset.shape == (1, 8, 8)
    images = everything(dataset.train)
    assert images.dtype == torch.uint8 and images.min() == 0 and images.max() == 255
    assert dataset.train.labels.unique().tolist() == list(range(10))
    # As scikit-learn itself reads them, each in one split, with its label.
    splits = dataset.train, dataset.validation, dataset.test
    found = [
        (bytes(image.numpy()), int(label))
        for split in splits
        for image, label in zip(everything(split), split.labels, strict=True)
    ]
    digits = sklearn.datasets.load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)
    assert sorted(found) == sorted(
        (bytes(image), int(label)) for image, label in zip(images, digits.target, strict=True)
    )
    code = (
        "import sys; from mixbench.experiments.data.sets import digits; digits.DATASET.read('')\n"
        "sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_statistics_are_of_the_training_split():
    dataset = load(DatasetConfig(name="digits", train_size=400))
    values = everything(dataset.train).numpy() / 255
    assert dataset.mean.item() == pytest.approx(values.mean(), abs=1e-7)
    assert dataset.std.item() == pytest.approx(values.std(), abs=1e-7)
    assert dataset.mean.item() != pytest.approx(everything(dataset.test).numpy().mean() / 255, 1e-6)


def test_statistics_by_hand_and_without_variation():
    images = torch.tensor([[[[0, 255]], [[51, 51]]]], dtype=torch.uint8)
    mean, std = statistics(images)
    assert mean.tolist() == pytest.approx([0.5, 0.2])
    assert std.tolist() == pytest.approx([0.5, 1.0])


def test_image_size():
    dataset = load(DatasetConfig(name="digits", image_size=16))
    assert dataset.shape == (1, 16, 16)
    plain = load(DatasetConfig(name="digits"))
    assert dataset.mean.item() == pytest.approx(plain.mean.item(), abs=0.01)
    assert dataset.digest != plain.digest


@pytest.mark.parametrize(("key", "value"), [("train_size", 5000), ("train_fraction", 0.001)])
def test_a_size_that_cannot_be_is_refused(key, value):
    with pytest.raises(UserError, match=r"^dataset\.train_size: got \d+, expected at "):
        load(DatasetConfig(name="digits", **{key: value}))


@pytest.fixture
def split():
    images = torch.arange(21, dtype=torch.uint8).view(21, 1, 1, 1).expand(21, 3, 4, 6)
    return ArraySplit(images, torch.arange(21))


def test_an_epoch_is_a_seeded_permutation(split):
    first, again, other = (
        [labels for _, labels in split.epoch(5, torch.Generator().manual_seed(seed))]
        for seed in (0, 0, 1)
    )
    # 21 = 4 * 5 + 1: the single image of the last batch is left out.
    assert [len(labels) for labels in first] == [5] * 4
    assert split.steps(5) == 4
    assert len(torch.cat(first).unique()) == 20
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(other))
    for images, labels in split.epoch(8, torch.Generator().manual_seed(0)):
        assert torch.equal(images[:, 2, 3, 5].long(), labels)


@pytest.mark.parametrize(("batch", "steps"), [(1, 21), (2, 10), (4, 5), (20, 1), (21, 1), (50, 1)])
def test_steps_are_the_batches_of_an_epoch(split, batch, steps):
    made = [len(labels) for _, labels in split.epoch(batch, torch.Generator().manual_seed(0))]
    assert len(made) == split.steps(batch) == steps
    assert batch == 1 or min(made) > 1


def test_one_image_still_makes_an_epoch(split):
    one = split.subset(torch.tensor([7]))
    assert [labels.tolist() for _, labels in one.epoch(4, torch.Generator())] == [[7]]
    assert one.steps(4) == 1


def test_evaluation_is_in_order_and_complete(split):
    assert torch.cat([labels for _, labels in split.batches(5)]).tolist() == list(range(21))
    assert [len(labels) for _, labels in split.batches(5)] == [5, 5, 5, 5, 1]
    assert split.subset(torch.tensor([3, 1])).labels.tolist() == [3, 1]


def test_nothing_touches_the_global_random_state(split):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    load(DatasetConfig(name="digits"))
    list(split.epoch(4, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_crops_come_with_the_epoch_and_not_with_evaluation():
    images = torch.randint(256, (6, 3, 9, 9), dtype=torch.uint8)
    split = ArraySplit(images, torch.arange(6))

    def epoch(crops):
        return next(split.epoch(6, torch.Generator().manual_seed(3), crops=crops))

    (one, order), (two, _) = epoch((0.08, 1.0)), epoch((0.08, 1.0))
    assert torch.equal(one, two)
    assert not torch.equal(one, images[order])
    assert torch.equal(epoch(None)[0], images[order])
    assert torch.equal(everything(split), images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_batches():
    here, there = (load(DatasetConfig(name="digits"), device) for device in ("cpu", "cuda"))
    assert here.digest == there.digest and torch.equal(here.mean, there.mean.cpu())
    batches = [
        list(dataset.train.epoch(128, torch.Generator().manual_seed(0)))
        for dataset in (here, there)
    ]
    for (x, y), (u, v) in zip(*batches, strict=True):
        assert u.is_cuda and torch.equal(x, u.cpu()) and torch.equal(y, v.cpu())
