"""The published corrupted images: both layouts, means and mCE by hand, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mixbench.experiments.config import resolve
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.corruption import CorruptionSettings, measure
from mixbench.experiments.evaluation.corruption.files import open_files
from mixbench.experiments.evaluation.corruption.levels import BENCHMARK, EXTRA
from mixbench.experiments.evaluation.corruption.reference import ALEXNET
from tests.support import planted
from tests.support.subjects import Nearest, config, digits, subject

FEW = ("contrast",)
DARK, LIGHT = "n01440764", "n01443537"
START = "corruption/files"


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Digits-C: clean images in all files but fog's, which is black from severity 3 on."""
    folder = tmp_path / "Digits-C"
    folder.mkdir()
    test = digits().test
    clean = test.images.permute(0, 2, 3, 1).numpy()  # type: ignore[attr-defined]
    np.save(folder / "labels.npy", np.tile(test.labels.numpy(), 5))
    np.save(folder / "contrast.npy", np.tile(clean, (5, 1, 1, 1)))
    for name in BENCHMARK:
        if name not in ("contrast", "fog"):
            (folder / f"{name}.npy").symlink_to("contrast.npy")
    foggy = np.tile(clean, (5, 1, 1, 1))
    foggy[2 * len(clean) :] = 0
    np.save(folder / "fog.npy", foggy[..., 0])  # grey ones need no channel
    (folder / "spatter.npy").symlink_to("fog.npy")
    return folder


def asked(folder: Path, **settings: object) -> CorruptionSettings:
    values = {"corruptions": FEW, "images": None, "files": str(folder), **settings}
    return CorruptionSettings.model_validate(values)


def test_arrays_by_hand(arrays: Path, tmp_path: Path) -> None:
    usual = CorruptionSettings().corruptions
    reference = tmp_path / "reference.csv"
    lines = [f"{name},{0.5 if name == 'fog' else 0.25}" for name in BENCHMARK]
    reference.write_text("\n".join(["corruption,error", *lines]))
    settings = asked(arrays, corruptions=usual, images=60, reference=str(reference))
    of = subject(Nearest(), batch_size=64)
    found, alike = (
        measure.measure(one, settings) for one in (of, subject(Nearest(), batch_size=7))
    )
    metrics = {key: value for key, value in found.metrics.items() if key.startswith(START)}
    assert metrics == pytest.approx({key: alike.metrics[key] for key in metrics}, abs=1e-6)
    clean = found.metrics["corruption/clean"]
    assert clean is not None and metrics[f"{START}/clean"] == clean
    chosen = next(iter(of.indexed(60, 0)))
    black = float((of.network(of.normalised(chosen[0] * 0)).argmax(1) == chosen[1]).float().mean())
    fog = (2 * clean + 3 * black) / 5
    assert metrics[f"{START}/fog"] == metrics[f"{START}/spatter"] == pytest.approx(fog)
    assert metrics[f"{START}/mean"] == pytest.approx((14 * clean + fog) / 15), "not spatter"
    assert metrics[f"{START}/weather"] == pytest.approx((3 * clean + fog) / 4)
    errors = [(1 - clean) / 0.25] * 14 + [(1 - fog) / 0.5]
    assert metrics[f"{START}/mce"] == pytest.approx(np.mean(errors))
    assert found.curves["files"]["reference"] == "reference.csv"
    assert found.curves["files"]["accuracy"]["fog"] == pytest.approx(
        [clean, clean, clean, black, black, black]
    )
    plain = measure.measure(of, asked(arrays))
    assert plain.metrics[f"{START}/mce"] is None and f"{START}/fog" not in plain.metrics


def test_the_files_of_cifar10_as_they_are_published(tmp_path: Path) -> None:
    """As its README.txt has it: 50,000 images a file, the first 10,000 of severity 1."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    (folder / "README.txt").write_text("CIFAR-C Dataset README")
    labels = np.random.default_rng(0).permutation(np.arange(10_000) % 10).astype(np.uint8)
    np.save(folder / "labels.npy", np.tile(labels, 5))
    shape = (50_000, 32, 32, 3)
    for name in (*BENCHMARK, *EXTRA):
        # Sparse: no disk is used but for what is written.
        file = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        for severity in range(5):
            file[severity * 10_000 + 7] = [10 * severity + 1, len(name), 2]
        file.flush()
    images = torch.zeros(10_000, 3, 32, 32, dtype=torch.uint8)
    test = planted.subject(nn.Identity(), images, torch.from_numpy(labels).long()).dataset
    cifar = resolve.parse({"dataset": {"name": "cifar10"}}).dataset
    opened = open_files(str(folder), cifar, CorruptionSettings().corruptions, test)
    assert set(opened.names) == {*BENCHMARK, *EXTRA}
    assert torch.equal(opened.choose(None, 0), torch.arange(10_000))
    for name in ("fog", "gaussian_noise"):
        for severity in (1, 5):
            ((shown, of),) = opened.batches(name, severity, torch.tensor([6, 7]), 64)
            assert shown.shape == (2, 3, 32, 32) and of.tolist() == labels[6:8].tolist()
            assert shown[0].sum() == 0
            colours = shown[1].flatten(1).unique(dim=1).flatten().tolist()
            assert colours == [10 * severity - 9, len(name), 2]
    hundred = resolve.parse({"dataset": {"name": "cifar100"}}).dataset
    with pytest.raises(UserError, match="has 10 classes, expected the 100 of cifar100"):
        open_files(str(folder), hundred, FEW, test)


def test_what_alexnet_has() -> None:
    assert set(ALEXNET) == set(BENCHMARK)
    ordered = sorted(ALEXNET, key=lambda name: ALEXNET[name])
    assert (ordered[0], ordered[-1]) == ("brightness", "impulse_noise")


def spoil(folder: Path, what: str) -> None:
    labels = np.load(folder / "labels.npy")
    fog = np.load(folder / "fog.npy")
    changed = {
        "labels": {
            "other": labels[::-1],
            "few": labels[:-5],
            "two": labels % 2,
            "text": labels / 3,
        },
        "fog": {
            "size": fog[:, :7],
            "floats": fog / 255,
            "short": fog[:-1],
            "objects": fog.tolist(),
        },
    }
    for name, by_kind in changed.items():
        if what in by_kind:
            np.save(folder / f"{name}.npy", np.asarray(by_kind[what]))
    if what == "broken":
        (folder / "fog.npy").write_bytes(b"no array")
    elif what == "lacking":
        (folder / "fog.npy").unlink()
    elif what == "empty":
        for file in folder.iterdir():
            file.unlink()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("other", "are not the labels of the 359 test images of digits, in their order"),
        ("few", "has 1790 labels, expected 1795: 5 severities of 359"),
        ("two", "has 2 classes, expected the 10 of digits: is it of another set?"),
        ("text", "values of type float64, expected one row of whole numbers"),
        ("size", "fog.npy has 1795 x 7 x 8 values of type uint8, expected 1795 x 8 x 8 x 1"),
        ("floats", "of type float64, expected 1795 x 8 x 8 x 1 of type uint8"),
        ("short", "fog.npy has 1794 x 8 x 8"),
        ("broken", "fog.npy is not readable as an array"),
        ("lacking", "has no fog, expected the fifteen corruptions of the publications"),
        ("empty", "holds no corruption, expected labels.npy with files such as fog.npy, or"),
    ],
)
def test_arrays_of_another_set_are_refused(arrays: Path, what: str, words: str) -> None:
    spoil(arrays, what)
    settings = asked(arrays, corruptions=CorruptionSettings().corruptions)
    with pytest.raises(UserError, match=r"corruption\.files: ") as caught:
        measure.prepare(settings, config().dataset)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_references_and_folders_that_do_not_fit(arrays: Path, tmp_path: Path) -> None:
    def refused(words: str, **settings: object) -> None:
        with pytest.raises(UserError) as caught:
            measure.prepare(asked(arrays, **settings), config().dataset)
        assert words in str(caught.value)

    refused("1000 classes of ImageNet-C, and Digits-C is another set", reference="alexnet")
    refused("without corruption.files", files=None, reference="alexnet")
    path = tmp_path / "errors.csv"
    for text, words in (
        ("corruption,error\nfog,0.5\n", "has no error for contrast"),
        ("name,value\nfog,1\n", "has the columns ['name', 'value'], expected corruption and error"),
        ("corruption,error\ncontrast,82\n", "line 2: error: got '82', expected a number above 0"),
    ):
        path.write_text(text)
        refused(words, reference=str(path))
    for key in ("files", "reference"):
        with pytest.raises(ValueError, match="that is there"):
            asked(arrays, **{key: "nowhere"})


class Shade(nn.Module):
    """Class 1 where the mean is above 1/2."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def test_folders_by_hand(tmp_path: Path) -> None:
    for number in range(8):
        for name, shade in ((DARK, 20), (LIGHT, 230)):
            for part in ("train", "test"):
                place = tmp_path / "photos" / part / name / f"ILSVRC2012_val_{number:08}.JPEG"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (12, 12), (shade + number,) * 3).save(place)
    clean = tmp_path / "photos" / "test"
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    (swapped / DARK).symlink_to(clean / LIGHT)
    (swapped / LIGHT).symlink_to(clean / DARK)
    (swapped / "unknown").mkdir()
    corrupted = tmp_path / "Tiny-ImageNet-C"
    for name, family in (("fog", "weather"), ("contrast", ".")):
        for severity in range(1, 6):
            place = corrupted / family / name / str(severity)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(swapped if (name, severity) == ("fog", 5) else clean)
    run = resolve.parse(
        {"dataset": {"name": f"imagefolder:{tmp_path / 'photos'}", "image_size": 8}}
    )
    dataset = load(run.dataset)
    shifted = nn.Sequential(nn.Identity(), Shade())
    of = Subject(shifted, dataset, run, torch.device("cpu"))
    of.normalised = lambda pixels: pixels  # type: ignore[method-assign]
    settings = asked(corrupted, corruptions=("fog", "contrast"), images=10)
    measure.prepare(settings, run.dataset)
    found = measure.measure(of, settings)
    assert found.metrics[f"{START}/fog"] == pytest.approx(0.8), "the fifth is swapped"
    assert found.metrics[f"{START}/contrast"] == 1.0
    assert found.metrics[f"{START}/mean"] == pytest.approx(0.9)
    said = found.curves["files"]
    assert (
        said["set"] == "Tiny-ImageNet-C"
        and said["resized"] is True
        and said["classes_left_out"] == 0
    )
    with pytest.raises(UserError, match="has folders, for runs on an image folder"):
        measure.prepare(settings, config().dataset)
    (swapped / DARK).unlink()
    with pytest.raises(UserError, match="fog at severity 5 has no folder for 1 of the 2 classes"):
        measure.prepare(settings, run.dataset)
    (corrupted / "contrast" / "3").unlink()
    with pytest.raises(UserError, match="contrast has no severity 3, expected the folders 1 to 5"):
        measure.prepare(settings, run.dataset)
