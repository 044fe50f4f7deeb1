"""Pictures of mixed images: the right pixels in the right place, with the right weights."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from mixbench import augmentations
from mixbench.experiments import cli
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import pictures
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.data.pictures import GAP, LINE, SIDE
from mixbench.experiments.data.preview_sheets import Look, preview

COLOURS = {"blue": (10, 20, 250), "green": (0, 200, 40), "red": (255, 0, 0)}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DatasetConfig(name="digits"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three classes of plain images, each of one colour."""
    root = tmp_path_factory.mktemp("colours")
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for number in range(20):
            Image.new("RGB", (16, 16), colour).save(root / name / f"{number:02d}.png")
    return load(DatasetConfig(name=f"imagefolder:{root}", image_size=16))


def method(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, **augmentations.resolve(name, parameters)}


def opened(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image).astype(int)


def tiles(strip: np.ndarray) -> list[np.ndarray]:
    return [strip[:SIDE, n * (SIDE + GAP) : n * (SIDE + GAP) + SIDE] for n in range(8)]


def test_an_unmixed_strip_shows_the_raw_pixels(digits: Dataset) -> None:
    strip = opened(pictures.mixed_strip(digits, method("none")))
    assert strip.shape == (SIDE + LINE + 2, 8 * SIDE + 7 * GAP, 3)
    gap = strip[:SIDE, SIDE : SIDE + GAP]
    assert (gap == 255).all()
    labels = digits.train.labels
    centres = [int((place + 0.5) * SIDE / 8) for place in range(8)]
    for digit, tile in enumerate(tiles(strip)):
        assert (tile == tile[..., :1]).all(), "grey"
        first = int((labels == digit).nonzero()[0])
        raw = digits.train.images[first, 0].numpy()  # type: ignore[attr-defined]
        assert np.array_equal(tile[np.ix_(centres, centres)][..., 0], raw)


def test_colours_are_right(colours: Dataset) -> None:
    strip = opened(pictures.mixed_strip(colours, method("none")))
    for number, tile in enumerate(tiles(strip)):
        expected = list(COLOURS.values())[number % 3]
        assert (tile == expected).all()


def test_mixed_colours_are_means(colours: Dataset) -> None:
    strip = opened(pictures.mixed_strip(colours, method("mixup", alpha=50.0)))
    palette = np.array(list(COLOURS.values()))
    mixed = 0
    for number, tile in enumerate(tiles(strip)):
        colour = tile[40, 40]
        assert (tile == colour).all()
        own = palette[number % 3]
        # On the line from its own colour to another, or to its own.
        distances = []
        for other in palette:
            way = other - own
            share = (colour - own) @ way / max(1, way @ way)
            share = min(1.0, max(0.0, share))
            distances.append(np.abs(own + share * way - colour).max())
        assert min(distances) <= 1.5
        mixed += int(np.abs(colour - own).max() > 5)
    assert mixed >= 3


def test_every_method_gets_the_same_images_and_the_same_draw_again(digits: Dataset) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = pictures.mixed_strip(digits, method("cutmix"))
    again = pictures.mixed_strip(digits, method("cutmix"))
    plain = opened(pictures.mixed_strip(digits, method("none")))
    assert one == again and torch.equal(torch.get_rng_state(), state)
    cut = opened(pictures.mixed_strip(digits, method("cutout", size=4)))
    # Outside of its square the picture is the unmixed one.
    same = (cut == plain)[:SIDE].all(axis=2).mean()
    assert 0.5 < same < 1.0


def test_every_method_has_its_picture(digits: Dataset) -> None:
    """Whatever it needs: the network, masks, earlier batches, a loss that is drawn per batch."""
    state = torch.get_rng_state()
    for name in augmentations.available():
        assert opened(pictures.mixed_strip(digits, method(name))).shape[0] > SIDE, name
    chosen = method("choice", methods=["recursivemix", "regmixup"])
    assert opened(pictures.mixed_strip(digits, chosen)).shape[0] > SIDE
    assert torch.equal(torch.get_rng_state(), state)


def test_few_images_make_a_shorter_strip(tmp_path: Path) -> None:
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (16, 16), colour).save(tmp_path / name / f"{number}.png")
    few = load(
        DatasetConfig(
            name=f"imagefolder:{tmp_path}", image_size=16, train_size=9, validation_fraction=0.34
        )
    )
    count = len(few.train)
    assert count < 8
    strip = opened(pictures.mixed_strip(few, method("none")))
    assert strip.shape == (SIDE + LINE + 2, count * SIDE + (count - 1) * GAP, 3)


@pytest.mark.parametrize("name", ["none", "mixup", "cutmix", "ricap", "fmix", "cutout"])
def test_a_preview_tells_the_weights(
    digits: Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = ImageDraw.ImageDraw.text

    def text(self: Any, place: Any, words: str, *arguments: Any, **more: Any) -> None:
        said.append(words)
        real(self, place, words, *arguments, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    sheet = opened(preview(digits, method(name, prob=1.0), rows=2, columns=3, look=Look(5)))
    assert sheet.shape[1] == 6 + 3 * (2 * 130 + 4 + 2 * 6)
    title, *captions = said
    assert title.startswith(name) and "prob=1.0" in title and "digits" in title

    first = torch.tensor([int((digits.train.labels == digit).nonzero()[0]) for digit in range(6)])
    images = normalise(digits.train.images[first], digits.mean, digits.std)  # type: ignore[attr-defined]
    parameters = {} if name == "none" else {"per_sample": True}
    batch = augmentations.create(name, **parameters)(
        images, torch.arange(6), 10, generator=torch.Generator().manual_seed(5)
    )
    expected = []
    for digit, weights in enumerate(batch.targets.dense(10).tolist()):
        shares = sorted(enumerate(weights), key=lambda item: -item[1])
        expected.append(str(digit))
        expected += [f"{share:.2f} {label}" for label, share in shares if share > 0.005]
    # What fits stands on one line.
    assert [part for text in captions for part in text.split(" · ")] == expected
    if name in ("none", "cutout"):
        assert captions == [text for n in range(6) for text in (str(n), f"1.00 {n}")]


def test_a_plan_inside_the_network_leaves_the_images_and_says_so(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = ImageDraw.ImageDraw.text

    def text(self: Any, place: Any, words: str, *arguments: Any, **more: Any) -> None:
        said.append(words)
        real(self, place, words, *arguments, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    inside = method("manifold_mixup", depths=[2])
    note = "mixed at layer 2 of the network; these are the images that enter it"
    strip = opened(pictures.mixed_strip(digits, inside))
    assert said[-1] == note and all(" · " in text or "1.00" in text for text in said[:8])
    plain = opened(pictures.mixed_strip(digits, method("none")))
    assert np.array_equal(strip[:SIDE], plain[:SIDE])

    said.clear()
    preview(digits, inside, rows=1, columns=2)
    lines = said[: said.index(note)]
    assert " ".join(lines).startswith("manifold_mixup (")
    assert "depths=[2]" in " ".join(lines)
    said.clear()
    preview(digits, method("manifold_mixup", depths=[0]), rows=1, columns=2)
    assert note not in said


def test_a_long_title_is_written_on_several_lines(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[Any, str]] = []

    def text(self: Any, place: Any, words: str, *_: Any, **__: Any) -> None:
        said.append((place, words))

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    mix = method("choice", methods=[{"name": "mixup", "alpha": 0.3}, "cutmix", "fmix", "cutout"])
    sheet = opened(preview(digits, mix, rows=1, columns=1))
    title = [(place, words) for place, words in said if place[0] == 6 and place[1] < 130]
    whole = " ".join(words for _, words in title)
    assert "methods=[{name: mixup, alpha: 0.3}, cutmix, fmix, cutout], weights=[]" in whole
    assert whole.endswith("drawn per sample, on digits")
    assert len(title) > 1
    font = ImageFont.load_default(size=11)
    assert all(font.getlength(words) <= sheet.shape[1] - 2 * 6 for _, words in title)
    heights = [place[1] for place, _ in title]
    assert all(after - before == 14 for before, after in itertools.pairwise(heights))


def test_the_command_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["preview", "cutmix", "--dataset", "digits", "--rows", "1"]) == 0
    assert capsys.readouterr().out == "wrote preview_cutmix.png\n"
    default = opened((tmp_path / "preview_cutmix.png").read_bytes())
    options = ["--set", "alpha=2e-1", "--out", "b.png", "--rows", "2", "--columns", "1"]
    assert cli.main(["preview", "cutmix", "--dataset", "digits", *options]) == 0
    other = opened((tmp_path / "b.png").read_bytes())
    assert other.shape[1] < default.shape[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "preview_cutmix.png"]


def test_several_methods_on_the_same_images(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["preview", "none", "cutmix", "cutout", "--dataset", "digits", "--rows", "2"]
    assert cli.main([*words, "--size", "96", "--set", "alpha=0.5", "--set", "size=3"]) == 0
    said = capsys.readouterr().out
    assert "--set alpha: not for none, cutout\n" in said and "--set size: not for none, cut" in said
    sheet = opened((tmp_path / "preview_methods.png").read_bytes())
    assert sheet.shape[1] == 6 + 4 * (96 + 12)
    # The last rows: unmixed, "none" and, outside of its square, "cutout" show the same pixels.
    columns = [sheet[:, 6 + 108 * n : 102 + 108 * n] for n in range(4)]
    last = slice(sheet.shape[0] - 96 - 20, sheet.shape[0] - 20)
    unmixed, plain, cut, holed = (column[last] for column in columns)
    assert np.array_equal(unmixed, plain) and len(np.unique(unmixed)) > 5
    assert not np.array_equal(cut, plain)
    assert 0.3 < (holed == plain).all(axis=2).mean() < 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["cutmix", "cutmix"], "got cutmix twice"),
        (["cutmix", "mixup", "--columns", "2"], "--columns: several methods have a column each"),
        (["cutmix", "mixup", "--staging", "all"], "--staging: got 2 methods, expected one"),
        (["cutmix", "mixup", "--set", "alhpa=1"], "alhpa"),
        (["cutmix", "mixpu"], "did you mean 'mixup'?"),
        (["cutmix", "--size", "31"], "--size"),
        (["cutmix", "--size", "1024", "--rows", "20", "--columns", "10"], "at most 60 million"),
    ],
)
def test_what_is_wrong_with_a_preview(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["preview", *words, "--dataset", "digits"]) == 2
    assert line in capsys.readouterr().err and not list(tmp_path.iterdir())
