"""Hiding: what hidden pixels become, and networks of which it is known what they see."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

import mixbench
from mixbench.augmentations.methods.cutmix import CutMix
from mixbench.experiments.config import resolve
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.base import Subject, subset_indices
from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.occlusion import FILLS, SHAPES, OcclusionSettings, basic
from mixbench.experiments.evaluation.occlusion import measure as occlusion
from mixbench.experiments.evaluation.occlusion.home import away, home_of
from mixbench.experiments.evaluation.occlusion.masks import SHAPE_LEVELS, levels
from mixbench.experiments.evaluation.partners import partners
from tests.support import planted


def asked(**values: Any) -> OcclusionSettings:
    return OcclusionSettings.model_validate(values)


class Watching(nn.Module):
    """Keeps what it is shown; class 1 where the pixel at `at` is above the threshold."""

    def __init__(self, at: tuple[int, int], threshold: float) -> None:
        super().__init__()
        self.at, self.threshold = at, threshold
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.clone())
        value = images[:, 0, self.at[0], self.at[1]] - self.threshold
        return torch.stack([-value, value], dim=1)


def test_the_shapes_are_those_of_the_settings() -> None:
    assert tuple(SHAPE_LEVELS) == SHAPES and set(occlusion.RECTANGLES) < set(SHAPES)


def scene() -> tuple[Tensor, Tensor]:
    """Colour images with values from 100 on, of two classes; class 1 is brighter."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(2, (90,), generator=generator)
    images = torch.randint(100, 150, (90, 3, 12, 12), generator=generator)
    images += (labels * 100).view(-1, 1, 1, 1)
    return images.to(torch.uint8), labels


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_pixels_have_the_fill_and_others_stay(shape: str) -> None:
    images, labels = scene()
    network = Watching((0, 0), 0.0)
    subject = planted.subject(network, images, labels, mean=0.4, std=0.2, batch_size=40)
    found = occlusion.measure(
        subject, asked(shapes=[shape], fractions=[0.25, 0.5], images=70, seed=5)
    )
    where = subset_indices(90, 70, 5)
    pixels = images[where].float() / 255
    clean = (pixels - 0.4) / 0.2
    draws = ImageRandom(where, 5, "hiding")
    other = partners(labels, where, 5)
    expected = {
        "black": torch.full_like(pixels, -2.0),
        "mean": torch.zeros_like(pixels),
        "noise": ((0.4 + 0.2 * draws.normal("noise", 3, 12, 12)).clamp(0, 1) - 0.4) / 0.2,
        "image": (images[other].float() / 255 - 0.4) / 0.2,
    }
    level = levels(shape, draws, 12, 12, [0.25, 0.5]).expand(70, -1, -1)
    # One pass of the images as they are, then by fraction all fills: 40 images, then 30. Blobs
    # hide the same of training images, which are the test images here.
    assert [len(part) for part in network.shown[:18]] == [40] * 9 + [30] * 9
    more = zip(network.shown[:18], network.shown[18:], strict=True) if shape == "blobs" else ()
    assert all(torch.equal(test, train) for test, train in more)
    assert shape == "blobs" or len(network.shown) == 18
    passes = [
        torch.cat([one, two])
        for one, two in zip(network.shown[:9], network.shown[9:18], strict=True)
    ]
    assert torch.equal(passes[0], clean)
    for step in range(2):
        hidden = (level <= step).unsqueeze(1).expand_as(pixels)
        assert found.curves["fraction"][shape][step + 1] == pytest.approx(
            float(hidden.float().mean())
        )
        for number, fill in enumerate(FILLS):
            shown = passes[1 + 4 * step + number]
            assert torch.equal(shown[~hidden], clean[~hidden])
            assert torch.allclose(shown[hidden], expected[fill][hidden], atol=1e-6)


def test_noise_is_of_the_data_and_in_the_range() -> None:
    images, labels = scene()
    subject = planted.subject(Watching((0, 0), 0.0), images, labels, mean=0.5, std=0.1)
    draws = ImageRandom(torch.arange(90), 0, "hiding")
    noise = occlusion.filling("noise", subject, images, draws, None)
    assert noise.shape == images.shape and noise.min() >= 0 and noise.max() <= 1
    assert len(noise.flatten(1).unique(dim=0)) == 90
    # 38,880 values: 1e-5 by chance.
    assert scipy.stats.kstest((noise.flatten().numpy() - 0.5) / 0.1, "norm").pvalue > 1e-5


def test_the_other_image_is_of_another_class_and_any_of_them() -> None:
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 2]).repeat(1000)[torch.randperm(7000)]
    own = torch.arange(0, 7000, 2)
    other = partners(labels, own, 0)
    assert (labels[other] != labels[own]).all()
    # Of class 1's partners, a fifth is of class 0 (1 of the 5 others); all over the split.
    mine = labels[other[labels[own] == 1]]
    share = scipy.stats.binomtest(int((mine == 0).sum()), len(mine), 1 / 5)
    assert share.pvalue > 1e-5
    assert scipy.stats.kstest(other.numpy() / 7000, "uniform").pvalue > 1e-5
    # Where there are few images, the first and the last of a class are drawn too.
    few = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    drawn = [partners(few, torch.arange(7), seed) for seed in range(100)]
    assert all((few[chosen] != few).all() for chosen in drawn)
    assert torch.stack(drawn).unique().tolist() == list(range(7))
    # The same image for the same place, whichever others are measured.
    assert torch.equal(partners(labels, own[::7], 0), other[::7])
    with pytest.raises(ValueError, match="two classes"):
        partners(torch.ones(5).long(), torch.arange(5), 0)
    alone = planted.subject(Watching((0, 0), 0.0), scene()[0][:5], torch.ones(5).long())
    with pytest.raises(UserError, match=r"^hiding\.fills: 'image' needs images of two classes"):
        occlusion.measure(alone, asked())


def test_one_that_looks_at_the_centre_alone() -> None:
    # 9 x 9 with the middle at (4, 4). Class 1 is bright, class 0 dark: what hides the middle
    # decides. 2 of 3 images are bright.
    labels = torch.tensor([1, 1, 0]).repeat(30)
    images = (labels * 200 + 30).view(-1, 1, 1, 1).expand(-1, 1, 9, 9).to(torch.uint8)
    network = Watching((4, 4), 0.5)
    subject = planted.subject(network, images, labels, mean=0.3)
    # In the pixels that the network gets, less the mean: 0.5 is 0.8.
    found = occlusion.measure(
        subject, asked(fractions=[0.1, 0.5, 0.9], fills=["black", "mean", "image"])
    )
    accuracy = found.curves["accuracy"]
    # Sides 3, 6, 9: all cover the middle. Black and mean are dark: class 0's images are right.
    third = pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    assert accuracy["centre"]["black"] == third and accuracy["centre"]["mean"] == third
    # The other class in the middle: always wrong.
    assert accuracy["centre"]["image"] == [1, 0, 0, 0]
    # The kept squares of 9, 6 and 3 have it, so nothing is lost.
    for values in accuracy["boundary"].values():
        assert values == [1, 1, 1, 1]
    # Elsewhere, those whose middle is hidden.
    draws = ImageRandom(torch.arange(90), 0, "hiding")
    for shape in ("square", "patches", "blobs"):
        level = levels(shape, draws, 9, 9, [0.1, 0.5, 0.9])[:, 4, 4]
        for step in range(3):
            hit = level <= step
            assert accuracy[shape]["image"][step + 1] == pytest.approx(
                1 - hit.float().mean().item()
            )
            lost = (hit & (labels == 1)).float().mean().item()
            assert accuracy[shape]["black"][step + 1] == pytest.approx(1 - lost)
    # The area of the centre by hand: realised 9/81, 36/81, 81/81, of which up to 0.9 counts.
    fraction = found.curves["fraction"]["centre"]
    assert fraction == pytest.approx([0, 1 / 9, 4 / 9, 1])
    by_hand = (1 / 9 * 0.5 + 0) / 0.9
    assert found.metrics["hiding/centre/image/area"] == pytest.approx(by_hand)
    assert found.metrics["hiding/boundary/image/area"] == pytest.approx(1)


def test_area_by_hand() -> None:
    # Trapezoids 0.25 * 0.9 + 0.25 * 0.6 + 0.25 * 0.3 over 0.75.
    assert occlusion.area([0, 0.25, 0.5, 0.75], [1, 0.8, 0.4, 0.2], 0.75) == pytest.approx(0.6)
    # Beyond the largest: cut at it, where the curve has 0.6.
    assert occlusion.area([0, 0.4, 0.8], [1, 0.8, 0.4], 0.6) == pytest.approx(
        (0.4 * 0.9 + 0.2 * 0.7) / 0.6
    )
    # Not quite there: goes on as it was.
    assert occlusion.area([0, 0.4], [1, 0.5], 0.5) == pytest.approx((0.4 * 0.75 + 0.1 * 0.5) / 0.5)


def test_the_summaries_are_means_of_areas(digits_subject: Subject) -> None:
    found = occlusion.measure(digits_subject, asked(images=100))
    metrics = found.metrics
    areas = {
        name.split("/")[1]: [metrics[f"hiding/{name.split('/')[1]}/{fill}/area"] for fill in FILLS]
        for name in metrics
        if name.endswith("/area") and name.count("/") == 3
    }
    assert set(areas) == set(SHAPES) and len(metrics) == 1 + 2 * 20 + 5 + 1 + 5

    def mean(*shapes: str) -> Any:
        values = [value for shape in shapes for value in areas[shape]]
        return pytest.approx(sum(values) / len(values))  # type: ignore[arg-type]

    assert metrics["hiding/area"] == mean(*SHAPES)
    assert metrics["hiding/rectangles/area"] == mean("centre", "boundary", "square")
    assert metrics["hiding/others/area"] == mean("patches", "blobs")
    difference = metrics["hiding/rectangles/area"] - metrics["hiding/others/area"]  # type: ignore[operator]
    assert metrics["hiding/favour"] == pytest.approx(difference)
    clean: float = metrics["hiding/clean"]  # type: ignore[assignment]
    assert clean > 0.9
    assert metrics["hiding/retention"] == mean_over(metrics["hiding/area"], clean)
    for shape in SHAPES:
        for fill in FILLS:
            values = found.curves["accuracy"][shape][fill]
            assert values[0] == clean and values[-1] < 0.6
            name = f"hiding/{shape}/{fill}"
            assert metrics[f"{name}/retention"] == mean_over(metrics[f"{name}/area"], clean)


def mean_over(value: float | None, clean: float) -> Any:
    assert value is not None
    return pytest.approx(value / clean)


def test_it_agrees_with_the_occlusion_of_training_runs(digits_subject: Subject) -> None:
    fractions = (0.25, 0.5, 0.75)
    found = occlusion.measure(
        digits_subject, asked(shapes="centre", fills="mean", fractions=fractions, images=None)
    )
    test = digits_subject.split("test")
    _, curves = basic.measure(
        digits_subject.network,
        digits_subject.images(test),
        shapes=("centre",),
        fractions=fractions,
        count=len(test),
        seed=0,
        batch_size=500,
        colours=(digits_subject.dataset.mean, digits_subject.dataset.std),
    )
    assert found.curves["accuracy"]["centre"]["mean"] == pytest.approx(
        curves["centre"]["accuracy"], abs=2 / len(test)
    )
    assert found.metrics["hiding/others/area"] is None and found.metrics["hiding/favour"] is None


def run_with(augmentation: Any, staging: Any = None) -> Any:
    given = {"dataset": {"name": "digits"}, "augmentation": augmentation, "staging": staging}
    return resolve.parse({key: value for key, value in given.items() if value is not None})


def test_what_the_training_showed_is_its_home() -> None:
    # A method that ships says what it shows: without that it has no headline.
    assert all(mixbench.create(name).home is not None for name in mixbench.available())
    rectangles = {"centre", "boundary", "square"}
    home = home_of(run_with("cutmix"))
    assert home is not None and home.shapes == rectangles and home.fills == {"image"}
    assert home_of(run_with("none")) == home_of(run_with({"name": "cutmix", "prob": 0.0}))
    assert home_of(run_with("none")) == mixbench.Home()
    for fill, fills in ((0.0, {"mean"}), ("mean", {"mean"}), (1.5, {"black", "mean"})):
        home = home_of(run_with({"name": "cutout", "fill": fill}))
        assert home is not None and home.shapes == {"centre", "square"} and home.fills == fills
    # Methods made of methods, and phases: all of them, also one that grows from nothing.
    both = {"name": "choice", "methods": ["fmix", {"name": "cutout", "prob": 0.0}]}
    phases = {
        "phases": [
            {"from": 0.0, "to": 0.5, "method": both},
            {"from": 0.5, "to": 1.0, "method": "gridmask", "prob": {"from": 0.0}},
        ]
    }
    home = home_of(run_with("cutmix", phases))
    assert home == mixbench.Home(frozenset({"blobs", "patches"}), frozenset({"image", "mean"}))
    assert away(home, [("blobs", "noise"), ("centre", "image"), ("centre", "black")]) == [
        ("centre", "black")
    ]


def test_a_method_that_does_not_say_has_no_headline(
    digits_subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = asked(images=40, fractions=[0.5], shapes=["blobs", "centre"])
    measured = {}
    for name in ("none", "fmix"):
        monkeypatch.setattr(digits_subject, "config", run_with(name))
        measured[name] = occlusion.measure(digits_subject, settings)
    none, fmix = measured["none"].metrics, measured["fmix"].metrics
    assert none["hiding/away/area"] == none["hiding/area"]
    # FMix is at home in blobs, and where another image is seen.
    kept = [fmix[f"hiding/centre/{fill}/area"] for fill in ("black", "mean", "noise")]
    assert fmix["hiding/away/area"] == pytest.approx(sum(kept) / 3)  # type: ignore[arg-type]
    assert measured["fmix"].curves["home"] == {"shapes": ["blobs"], "fills": ["image"]}
    monkeypatch.setattr(digits_subject, "config", run_with("cutmix"))
    monkeypatch.setattr(CutMix, "home", None)
    found = occlusion.measure(digits_subject, settings)
    assert found.metrics["hiding/away/area"] is None and found.curves["home"] is None


def test_iocclusion_by_hand(digits_subject: Subject) -> None:
    # Gaps .2 as it is, .1 and .05 hidden: the mean of 1/2 and 1/4. Its sign does not count.
    assert occlusion.iocclusion([1, 0.6, 0.15], [0.8, 0.5, 0.2]) == pytest.approx(0.375)
    assert occlusion.iocclusion([0.7, 0.5], [0.7, 0.4]) is None
    found = occlusion.measure(digits_subject, asked(images=60, fractions=[0.3], fills="mean"))
    test, train = found.curves["accuracy"]["blobs"]["mean"], found.curves["train"]["accuracy"]
    by_hand = occlusion.iocclusion(train["blobs"]["mean"], test)
    assert found.metrics["hiding/iocclusion/mean"] == by_hand == found.metrics["hiding/iocclusion"]
    # The images are those of the training split: the network was made of their means.
    split = digits_subject.split("train")
    where = subset_indices(len(split), 60, 0)
    images, labels = next(digits_subject.images(split.subset(where)))
    right = (digits_subject.network(images).argmax(dim=1) == labels).float().mean().item()
    assert train["blobs"]["mean"][0] == pytest.approx(right)
    found = occlusion.measure(digits_subject, asked(images=20, shapes="centre", fractions=[0.3]))
    assert found.metrics["hiding/iocclusion"] is None and "train" not in found.curves


@pytest.mark.parametrize("size", [7, 64])
def test_the_same_whatever_the_batch(digits_subject: Subject, size: int) -> None:
    raw = digits_subject.dataset.test
    settings = asked(images=100, fractions=[0.25, 0.6])
    found = [
        occlusion.measure(
            planted.subject(
                digits_subject.network,
                raw.images,
                raw.labels,
                batch_size=batch,  # type: ignore[attr-defined]
                mean=float(digits_subject.dataset.mean),
                std=float(digits_subject.dataset.std),
            ),
            settings,
        )
        for batch in (size, 500)
    ]
    assert found[0].metrics == found[1].metrics and found[0].curves == found[1].curves


def test_one_that_is_never_right_retains_nothing_that_can_be_said() -> None:
    network = planted.Constant(torch.tensor([0.0, 0.0, 1.0]))
    images, labels = scene()
    found = occlusion.measure(planted.subject(network, images, labels), asked(images=20))
    assert found.metrics["hiding/retention"] is None
    assert found.metrics["hiding/blobs/noise/retention"] is None
    assert found.metrics["hiding/area"] == found.metrics["hiding/favour"] == 0.0


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hiding.shapes", ["center"], "did you mean 'centre'?"),
        ("hiding.fills", ["blakc"], "did you mean 'black'?"),
        ("hiding.fills", 3, "expected a list of fills"),
        ("hiding.shapes", [], "at least 1"),
        ("hiding.fractions", [1.0], "below 1"),
        ("hiding.fractions", [0.5, 0], "got 0, expected a number above 0"),
        ("hiding.fractions", [], "got 0 fractions, expected from 1 to 100"),
        ("hiding.images", 0, "expected a number of at least 1"),
    ],
)
def test_bad_input(key: str, value: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        catalogue.resolve({key: value}, ["hiding"])
    message = str(error.value)
    assert key in message and words in message and "\n" not in message


def test_settings_are_put_in_order() -> None:
    settings = asked(fractions=["0.5", 0.1, 0.5], shapes="blobs", fills=["mean", "mean"])
    assert settings.fractions == (0.1, 0.5)
    assert settings.shapes == ("blobs",) and settings.fills == ("mean",)
