"""Corruption: what each does to images, the same for every model and batch size, and how strong."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import sklearn.datasets
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.base import Subject, subset_indices
from mixbench.experiments.evaluation.calibration.measure import errors as calibration_errors
from mixbench.experiments.evaluation.corruption import (
    CorruptionSettings,
    blur,
    digital,
    measure,
    noise,
    separable,
    weather,
)
from mixbench.experiments.evaluation.corruption.corrupt import applies, corrupt
from mixbench.experiments.evaluation.corruption.levels import (
    BENCHMARK,
    CORRUPTIONS,
    FAMILIES,
    SEVERITIES,
    USUAL,
)
from mixbench.experiments.evaluation.image_random import ImageRandom
from tests.support import planted
from tests.support.subjects import Nearest
from tests.support.subjects import subject as digits_of


def draws(count: int, name: str = "test", first: int = 0) -> ImageRandom:
    return ImageRandom(torch.arange(first, first + count), 0, name)


@cache
def clothes(count: int = 150) -> Tensor:
    test = load(DatasetConfig(name="fashion_mnist", train_size=100)).test
    return test.images[:count].float() / 255  # type: ignore[attr-defined]


@cache
def photographs(side: int, count: int, size: int) -> Tensor:
    """Squares of scikit-learn's two photographs, resized: (count, 3, size, size)."""
    generator = torch.Generator().manual_seed(0)
    whole = [
        torch.from_numpy(sklearn.datasets.load_sample_image(name).copy()).permute(2, 0, 1)
        for name in ("china.jpg", "flower.jpg")
    ]
    squares = []
    for number in range(count):
        image = whole[number % 2]
        top, left = (
            int(torch.randint(length - side, (1,), generator=generator))
            for length in image.shape[1:]
        )
        squares.append(image[:, top : top + side, left : left + side])
    images = torch.stack(squares).float() / 255
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True).clamp(0, 1)


IMAGES: dict[str, Any] = {
    "clothes": clothes,
    "32": lambda: photographs(128, 100, 32),
    "64": lambda: photographs(200, 20, 64),
    "128": lambda: photographs(300, 8, 128),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_each_severity_changes_images_more_than_the_one_before(kind: str) -> None:
    images = IMAGES[kind]()
    for name in CORRUPTIONS:
        if not applies(name, images.shape[1]):
            continue
        before, own = images.clone(), draws(len(images), name)
        changes = []
        for severity in SEVERITIES:
            found = corrupt(images, name, severity, own)
            assert found.shape == images.shape and found.dtype == torch.float32
            assert found.min() >= 0 and found.max() <= 1 and found.isfinite().all()
            changes.append(float((found - images).abs().mean()))
        assert torch.equal(images, before), "the input is untouched"
        assert changes[0] > 0.001 and (np.diff(changes) > 0).all(), (name, changes)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_pixels_in_batches_of_any_size(name: str) -> None:
    images = photographs(128, 70, 32)
    for severity in (1, 5):
        whole = corrupt(images, name, severity, draws(70, name))
        for size in (7, 64):
            parts = [
                corrupt(part, name, severity, draws(len(part), name, size * number))
                for number, part in enumerate(images.split(size))
            ]
            assert torch.equal(torch.cat(parts), whole), (size, severity)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 20), (4, 17, 8), (3, 113, 120)])
def test_images_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    if not applies(name, shape[0]):
        return
    for images in (torch.rand(3, *shape), torch.zeros(3, *shape), torch.ones(3, *shape)):
        for severity in (1, 5):
            found = corrupt(images, name, severity, draws(3))
            assert found.shape == images.shape and found.isfinite().all()
            assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise", "shot_noise"])
def test_noise_has_the_deviation_that_it_should(name: str) -> None:
    grey = torch.full((50, 1, 32, 32), 102 / 255)  # 0.4
    for severity in SEVERITIES:
        level = CORRUPTIONS[name].small[severity - 1]
        expected = {
            "gaussian_noise": level,
            "speckle_noise": 0.4 * level,
            "shot_noise": (0.4 / level) ** 0.5,
        }
        change = (corrupt(grey, name, severity, draws(50)) - grey).double()
        assert float(change.std()) == pytest.approx(expected[name], rel=0.02)
        assert abs(float(change.mean())) < 4 * expected[name] / grey.numel() ** 0.5


@pytest.mark.parametrize("photons", [3, 60, 500])
def test_photons_are_counted_as_poisson_has_it(photons: int) -> None:
    shades = torch.tensor([0, 1, 40, 255])
    images = (shades / 255).view(4, 1, 1, 1).expand(4, 1, 60, 60)
    counts = noise.shot_noise(images, photons, 1.0, draws(4)) * photons
    assert torch.allclose(counts, counts.round(), atol=1e-3)
    counts = counts.round()
    uniform = draws(4).uniform("noise", 1, 60, 60).double().numpy()
    for place, shade in enumerate(shades.tolist()):
        expected = scipy.stats.poisson.ppf(np.maximum(uniform[place], 1e-12), photons * shade / 255)
        assert (counts[place].numpy() == expected).mean() > 0.999


def test_impulses_hit_the_share_that_they_should() -> None:
    grey = torch.full((200, 3, 32, 32), 0.5)
    for severity, share in zip(SEVERITIES, CORRUPTIONS["impulse_noise"].small, strict=True):
        found = corrupt(grey, "impulse_noise", severity, draws(200))
        assert set(found.unique().tolist()) == {0.0, 0.5, 1.0}
        assert float((found == 0).float().mean()) == pytest.approx(share / 2, rel=0.1)
        assert float((found == 1).float().mean()) == pytest.approx(share / 2, rel=0.1)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0])
def test_gaussian_blur_is_scipys(sigma: float) -> None:
    image = photographs(128, 2, 32)
    found = blur.gaussian_blur(image, sigma, 1.0, draws(2))
    expected = scipy.ndimage.gaussian_filter(
        image.double().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4
    )
    assert np.abs(found.numpy() - expected).max() < 1e-6


def test_defocus_is_a_disk() -> None:
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    found = blur.defocus_blur(point, (6, 0.01), 1.0, draws(1))[0, 0].double()
    assert float(found.sum()) == pytest.approx(1)
    down, across = torch.meshgrid(torch.arange(41) - 20, torch.arange(41) - 20, indexing="ij")
    radius = (down**2 + across**2).double().sqrt()
    # 113 whole pixels are within 6 of a pixel: a disk of radius 5.997.
    assert torch.allclose(found[radius < 5.2], torch.tensor(1 / 113).double(), rtol=1e-3)
    assert found[radius > 6.8].abs().max() < 1e-6
    moment = float((found * radius**2).sum())
    assert moment == pytest.approx(113 / torch.pi / 2, rel=0.03)


@pytest.mark.parametrize("maps", [1, 2, 5])
def test_sums_of_maps(maps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = tuple(
        (
            torch.rand(5, 6, generator=generator).double(),
            torch.rand(7, 9, generator=generator).double(),
        )
        for _ in range(maps)
    )
    images = torch.rand(4, 3, 6, 9, generator=generator)
    expected = sum(
        torch.einsum("ih,bchw,jw->bcij", rows, images.double(), columns) for rows, columns in pairs
    )
    found = separable.apply(images, separable.Maps(pairs))
    assert torch.allclose(found.double(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda side: separable.gaussian(side, 1.3),
        lambda side: separable.zoom(side, 1.2),
        lambda side: separable.pixelate(side, 0.6),
        lambda side: separable.gaussian(side, 30, truncate=3, mirrored=True),
    ],
)
@pytest.mark.parametrize("side", [1, 2, 7, 28])
def test_what_is_even_stays_even(make: Any, side: int) -> None:
    matrix = make(side)
    assert matrix.min() >= 0
    assert torch.allclose(matrix.sum(dim=1), torch.ones(side).double())


def test_zoom_enlarges_the_middle() -> None:
    ramp = torch.arange(9).double() - 4
    assert torch.allclose(separable.zoom(9, 2.0) @ ramp, ramp / 2)
    assert torch.equal(separable.zoom(9, 1.0), torch.eye(9).double())


def test_pixels_as_pillow_makes_them() -> None:
    image = photographs(128, 1, 32)
    for share in (0.25, 0.5, *CORRUPTIONS["pixelate"].small):
        found = digital.pixelate(image, share, 1.0, draws(1))
        few = round(32 * share)
        for channel in range(3):
            drawn = Image.fromarray(image[0, channel].numpy(), mode="F")
            small = drawn.resize((few, few), Image.Resampling.BOX)
            expected = np.asarray(small.resize((32, 32), Image.Resampling.NEAREST))
            error = np.abs(found[0, channel].numpy() - expected)
            # Pillow's areas are of whole pixels, ours share those at their edges.
            assert error.max() < 1e-6 if 32 % few == 0 else error.mean() < 0.02


@pytest.mark.parametrize("angle", [0.0, np.pi / 2, np.pi / 4])
def test_a_trail_goes_one_way_and_keeps_the_light(angle: float) -> None:
    point = torch.zeros(1, 1, 31, 31)
    point[..., 15, 15] = 1
    found = blur.trail(point, 5, 2.0, torch.tensor([angle]))[0, 0]
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)
    weights = np.exp(-0.5 * (np.arange(9) / 2) ** 2)
    seen = found[found > 0].sort(descending=True).values.numpy()
    if angle == np.pi / 4:
        lines = found.nonzero()
        assert (lines[:, 0] == lines[:, 1]).all() and (lines <= 15).all()
    else:
        assert seen == pytest.approx(weights / weights.sum(), rel=1e-5)


def compressed(image: Tensor, quality: int) -> Tensor:
    """One image (C,H,W) through Pillow."""
    array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array).save(
        file, "JPEG", quality=quality
    )
    read = np.asarray(Image.open(file)).reshape(array.shape)
    return torch.from_numpy(read.copy()).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("quality", [80, 40, 7])
def test_jpeg_is_pillows(quality: int) -> None:
    grey = clothes()[:50]
    found = digital.jpeg_compression(grey, quality, 1.0, draws(50))
    expected = torch.stack([compressed(image, quality) for image in grey])
    assert torch.equal(found, expected), "grey images are the same to the last digit"
    colour = photographs(128, 20, 32)
    found = digital.jpeg_compression(colour, quality, 1.0, draws(20))
    expected = torch.stack([compressed(image, quality) for image in colour])
    # But for the chroma of the first row and column, which is read with what is before them.
    assert torch.equal(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])
    assert (found - expected).abs().max() < 0.2


def test_brightness_and_saturation_leave_the_hue() -> None:
    import colorsys

    colours = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    brighter = weather.brightness(colours, 0.2, 1.0, draws(1))
    paler = digital.saturate(colours, (0.3, 0.0), 1.0, draws(1))
    stronger = digital.saturate(colours, (2.0, 0.1), 1.0, draws(1))
    for place in range(36):
        of = [
            colorsys.rgb_to_hsv(*(float(c) for c in images.flatten(2)[0, :, place]))
            for images in (colours, brighter, paler, stronger)
        ]
        hue, saturation, value = of[0]
        assert of[1] == pytest.approx((hue, saturation, min(1, value + 0.2)), abs=1e-4)
        assert of[2] == pytest.approx((hue, 0.3 * saturation, value), abs=1e-4)
        assert of[3] == pytest.approx((hue, min(1, 2 * saturation + 0.1), value), abs=1e-4)
    black = torch.zeros(1, 3, 2, 2)
    assert torch.allclose(weather.brightness(black, 0.2, 1.0, draws(1)), torch.tensor(0.2))
    assert torch.equal(digital.saturate(black + 0.5, (20, 0.2), 1.0, draws(1)), black + 0.5)


def test_contrast_keeps_the_mean() -> None:
    images = photographs(128, 5, 32)
    found = digital.contrast(images, 0.15, 1.0, draws(5))
    assert torch.allclose(found.mean((2, 3)), images.mean((2, 3)), atol=1e-5)
    assert torch.allclose(found.std((2, 3)), 0.15 * images.std((2, 3)), atol=1e-5)


def test_clouds_fill_their_range_and_are_rougher_where_details_fade_less() -> None:
    rough = []
    for fading in (3.0, 1.75, 1.1):
        clouds = weather.plasma(draws(20), 32, fading)
        assert clouds.shape == (20, 1, 32, 32)
        assert (clouds.amin((1, 2, 3)) == 0).all() and (clouds.amax((1, 2, 3)) == 1).all()
        # A torus: the other side is a neighbour.
        steps = [(clouds - clouds.roll(1, axis)).abs() for axis in (2, 3)]
        inside = (steps[0][:, :, 1:].mean(), steps[1][..., 1:].mean())
        edge = (steps[0][:, :, 0].mean(), steps[1][..., 0].mean())
        assert float(edge[0] / inside[0]) == pytest.approx(1, abs=0.6)
        assert float(edge[1] / inside[1]) == pytest.approx(1, abs=0.6)
        rough.append(float(inside[0]))
    assert rough == sorted(rough)


def test_three_corners_move_as_drawn() -> None:
    drawn = draws(5)
    shift = digital._affine(drawn, 2.0, 32, 32)
    moves = (drawn.uniform("corners", 3, 2) * 2 - 1) * 2
    for number, (row, column) in enumerate(((26, 26), (26, 6), (6, 6))):
        assert torch.allclose(shift[:, :, row, column], moves[:, number], atol=1e-5)
    still = digital.elastic_transform(photographs(128, 5, 32), (0, 1, 0), 1.0, drawn)
    assert torch.allclose(still, photographs(128, 5, 32), atol=1e-5)


class Brightness(nn.Module):
    """Class 1 where the mean is above 1/2, by a number that grows with it."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def _is_calibration(name: str) -> bool:
    return name.endswith(("debiased", "nll", "gap", "ece", "by_chance"))


def test_means_by_hand() -> None:
    # Grey images of 0.44: contrast leaves them, brightness of 0.1 and more lifts them.
    images = torch.full((6, 1, 32, 32), round(0.44 * 255), dtype=torch.uint8)
    asked = CorruptionSettings(corruptions=("contrast", "brightness", "saturate"), images=None)
    found = measure.measure(
        planted.subject(Brightness(), images, torch.zeros(6).long(), batch_size=4), asked
    )
    accuracies = {name: value for name, value in found.metrics.items() if not _is_calibration(name)}
    assert accuracies == {
        "corruption/clean": 1.0,
        "corruption/contrast": 1.0,
        "corruption/brightness": 0.2,
        "corruption/saturate": None,
        "corruption/noise": None,
        "corruption/blur": None,
        "corruption/weather": 0.2,
        "corruption/digital": 1.0,
        "corruption/mean": 0.6,
        "corruption/retention": 0.6,
    }
    assert found.curves["severity"] == [0, 1, 2, 3, 4, 5]
    assert found.curves["accuracy"]["brightness"] == [1, 1, 0, 0, 0, 0]
    assert found.curves["accuracy"]["mean"] == [1, 1, 0.5, 0.5, 0.5, 0.5]


def test_retention_of_nothing_is_none() -> None:
    images = torch.zeros((4, 1, 32, 32), dtype=torch.uint8)
    found = measure.measure(
        planted.subject(Brightness(), images, torch.ones(4).long()),
        CorruptionSettings(corruptions=("contrast",)),
    )
    assert found.metrics["corruption/retention"] is None


class Recording(nn.Module):
    """Keeps what it is shown, and says what it likes."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer, self.shown = answer, list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.clone())
        return F.one_hot(torch.full((len(images),), self.answer), 10).float()


def test_every_model_sees_the_same_in_every_batch_size() -> None:
    images = (clothes(60) * 255).to(torch.uint8)
    names = ("gaussian_noise", "fog", "snow", "elastic_transform", "glass_blur", "motion_blur")
    asked = CorruptionSettings(corruptions=names, images=40, seed=3)
    seen = []
    for answer, size in ((0, 7), (1, 64), (2, 500)):
        network = Recording(answer)
        subject = planted.subject(network, images, torch.zeros(60).long(), batch_size=size)
        measure.measure(subject, asked)
        looks = 1 + len(names) * len(SEVERITIES)
        shown = network.shown[-(-60 // size) :]  # after the validation split
        seen.append([torch.cat(shown[look::looks]) for look in range(looks)])
        assert len(seen[-1][0]) == 40
    for look, *others in zip(*seen, strict=True):
        assert all(torch.equal(look, other) for other in others)
    assert len({bytes(look.numpy()) for look in seen[0]}) == len(seen[0])


def test_a_trained_network_on_digits(digits_subject: Subject) -> None:
    found = measure.measure(digits_subject, CorruptionSettings(images=200))
    assert found.metrics["corruption/saturate"] is None
    given = {
        key: value
        for key, value in found.metrics.items()
        if value is not None and not _is_calibration(key)
    }
    assert all(0 <= value <= 1 for key, value in given.items())
    assert given["corruption/clean"] > 0.9 > given["corruption/mean"] > 0.2
    members = [given[f"corruption/{n}"] for n in USUAL if n != "saturate"]
    assert given["corruption/mean"] == pytest.approx(np.mean(members))
    for family in FAMILIES:
        members = [
            given[f"corruption/{name}"]
            for name in USUAL
            if CORRUPTIONS[name].family == family and name != "saturate"
        ]
        assert given[f"corruption/{family}"] == pytest.approx(np.mean(members))


def test_families_stand_for_their_members_and_others_are_refused() -> None:
    asked = CorruptionSettings.model_validate({"corruptions": ["noise", "fog", "shot_noise"]})
    assert asked.corruptions == (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "speckle_noise",
        "fog",
    )
    assert CorruptionSettings().corruptions == USUAL
    assert CorruptionSettings(preset="published").corruptions == tuple(CORRUPTIONS)
    # With frost it would be another mean under the same name.
    assert "frost" not in CorruptionSettings(corruptions="weather").corruptions  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown corruption 'fogg'; did you mean 'fog'"):
        CorruptionSettings.model_validate({"corruptions": ["fogg"]})
    with pytest.raises(ValueError, match="expected a list"):
        CorruptionSettings.model_validate({"corruptions": []})


def test_stored_settings_are_those_of_before_unless_a_later_one_is_set() -> None:
    before = {"corruptions": list(USUAL), "images": 1000, "seed": 0}
    assert catalogue.resolve({}, ["corruption"]) == {"corruption": before}
    stored = catalogue.resolve({"corruption.preset": "published"}, ["corruption"])["corruption"]
    assert stored["preset"] == "published" and "files" not in stored
    assert catalogue.parse("corruption", stored) == CorruptionSettings(preset="published")


# As make_cifar_c.py and make_imagenet_c.py have them.
PUBLISHED = {
    ("glass_blur", False): [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    ("motion_blur", False): [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    ("frost", False): [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    ("frost", True): [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    ("fog", True): [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
    ("saturate", False): [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
    ("saturate", True): [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)],
}


def test_published_constants() -> None:
    for (name, is_large), expected in PUBLISHED.items():
        found = [CORRUPTIONS[name].of(s, "published", is_large=is_large) for s in SEVERITIES]
        assert [one[: len(expected[0])] for one in found] == expected, name
    for is_large, unit, parts in (
        (False, 32, [(0, 0.08), (0.05, 0.07), (0.08, 0.06), (0.1, 0.05), (0.1, 0.03)]),
        (True, 244, [(2, 0.1), (2, 0.2), (0.05, 0.02), (0.07, 0.02), (0.12, 0.02)]),
    ):
        bent = CORRUPTIONS["elastic_transform"]
        for severity, (strength, corner) in zip(SEVERITIES, parts, strict=True):
            found = bent.of(severity, "published", is_large=is_large)
            assert (found[0], found[2]) == pytest.approx((unit * strength, unit * corner))
    assert CORRUPTIONS["snow"].of(2, "published", is_large=True)[-1] == 0.7
    extra = {"speckle_noise", "gaussian_blur", "spatter", "saturate"}
    assert set(CORRUPTIONS) - set(BENCHMARK) == extra
    assert len(BENCHMARK) == 15


def test_published_images_have_256_shades_and_their_own_mean() -> None:
    images = photographs(128, 6, 32)
    shades = (images * 255).round() / 255
    rounded = corrupt(shades, "jpeg_compression", 1, draws(6), "published")
    plain = corrupt(shades, "jpeg_compression", 1, draws(6))
    assert torch.allclose(rounded, plain, atol=1e-6), "what is a shade stays"
    found = corrupt(images, "fog", 3, draws(6), "published")
    below = corrupt(images, "fog", 3, draws(6)) - found
    assert torch.allclose(found * 255, (found * 255).round(), atol=1e-3)
    assert below.min() > -1e-4 and below.max() < 1 / 255 + 1e-6
    subject = planted.subject(
        Brightness(), (images * 255).to(torch.uint8), torch.zeros(6).long(), batch_size=4
    )
    asked = CorruptionSettings(
        preset="published", corruptions=("fog", "frost", "contrast", "spatter"), images=None
    )
    metrics = measure.measure(subject, asked).metrics
    start = "corruption/published"
    assert all(name.startswith(start) for name in metrics)
    three = [metrics[f"{start}/{name}"] for name in ("fog", "frost", "contrast")]
    assert metrics[f"{start}/mean"] == pytest.approx(np.mean(three)), "spatter is for tuning"
    assert metrics[f"{start}/digital"] == metrics[f"{start}/contrast"]


def test_ice_is_bluish_and_mud_brown() -> None:
    black, white = torch.zeros(40, 3, 64, 64), torch.ones(40, 3, 64, 64)
    red, green, blue = weather.frost(black, (1.0, 1.0), 1.0, draws(40)).mean((0, 2, 3)).tolist()
    assert 0.3 < red < green < blue < 0.6
    textures = weather.crystals(draws(40), 64)
    assert textures.min() >= 0 and textures.max() <= 1 and textures.std() > 0.1
    muddy = digital.spatter(white, (0.65, 0.1, 0.5, 0.6, 0.6, 1), 1.0, draws(40))
    for channel, colour in enumerate((63, 42, 20)):
        assert float(muddy[:, channel].min()) >= colour / 255 - 1e-6, "nothing is darker than mud"
    share = float((muddy < 1).any(dim=1).float().mean())
    wet = digital.spatter(black, (0.65, 0.3, 1, 0.69, 0.5, 0), 1.0, draws(40))
    assert 0.2 < share < 0.98 and float(wet.amax()) == pytest.approx(0.5 * 238 / 255)
    assert float((wet > 0).float().mean()) == pytest.approx(
        1 - scipy.stats.norm.cdf(0.04 / (0.3 * 0.2821)), abs=0.03
    ), "of noise smoothed by 1, deviation 1 / (2 sqrt(pi)) is left"


def test_calibration_under_corruption_is_that_of_the_same_logits() -> None:
    subject = digits_of(Nearest(scale=3.0), batch_size=50)
    kept: dict[int, list[Tensor]] = {}

    class Keeping(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = inner(images)
            kept.setdefault(len(kept), []).append(logits)
            return logits

    inner, asked = subject.network, CorruptionSettings(corruptions=("contrast",), images=50)
    subject = digits_of(Keeping(), batch_size=1000)
    found = measure.measure(subject, asked)
    labels = subject.split("test").labels[subset_indices(len(subject.split("test")), 50, 0)].numpy()
    _, clean, *corrupted = [logits[0].numpy() for logits in kept.values()]
    values = [calibration_errors(logits, labels, 15)[0] for logits in corrupted]
    for name in ("nll", "gap", "ece", "ece_by_chance"):
        expected = np.mean([one[name] for one in values])
        assert found.metrics[f"corruption/{name}"] == pytest.approx(expected, abs=1e-6)
    square = max(np.mean([one["debiased_squared"] for one in values]), 0)
    assert found.metrics["corruption/debiased"] == pytest.approx(square**0.5, abs=1e-6)
    at_0 = calibration_errors(clean, labels, 15)[0]
    assert found.curves["calibration"]["nll"][0] == pytest.approx(at_0["nll"], abs=1e-6)
    scaled, plain = found.metrics["corruption/scaled/nll"], found.metrics["corruption/nll"]
    assert scaled is not None and plain is not None and scaled < plain, "three times too sharp"
