"""FMix: masks of exactly λN pixels, isotropic by default, the authors' stripes on request."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Plan
from mixbench.augmentations.methods.fmix import FMix
from tests.support.oracles import SIGMAS, assert_distribution, assert_rate, chosen, seeded

SIZES = [(32, 32), (16, 64), (64, 16), (9, 7), (1, 5), (5, 1), (1, 1)]


def own_mask(plan: Plan, count: int, height: int, width: int) -> Tensor:
    """(count, H, W) bool, read from the pixels: images 1, 0, 1, 0, ..., each meets the next."""
    images = (torch.arange(count) % 2 == 0).float().view(-1, 1, 1, 1).repeat(1, 1, height, width)
    mixed = plan.mix_images(images)
    assert bool(((mixed == 0) | (mixed == 1)).all())  # binary: nothing is blended
    return (mixed == images)[:, 0]


def sampled_masks(count: int, height: int, width: int, spectrum: str = "isotropic") -> Tensor:
    half = torch.full((count,), 0.5, dtype=torch.float64)
    mix = augmentations.create("fmix", per_sample=True, pairing="roll", spectrum=spectrum)
    plan = mix.draw(chosen(count, height, width, lam=half))
    return own_mask(plan, count, height, width)


def edges(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Changes from a pixel to the next one below, and to the next one at its side, per mask."""
    below = (masks[:, 1:] != masks[:, :-1]).double().mean(dim=(1, 2))
    beside = (masks[:, :, 1:] != masks[:, :, :-1]).double().mean(dim=(1, 2))
    return below, beside


def ratio_and_error(above: Tensor, below: Tensor) -> tuple[float, float]:
    """Ratio of two paired means, and its standard error (delta method)."""
    ratio = float(above.mean() / below.mean())
    error = float((above - ratio * below).std() / below.mean()) / len(above) ** 0.5
    return ratio, error


@pytest.mark.parametrize("spectrum", ["isotropic", "official"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_mask_has_lambda_n_pixels(height: int, width: int, spectrum: str) -> None:
    count, pixels = 400, height * width
    lam = torch.rand(count, dtype=torch.float64, generator=seeded(0))
    mix = augmentations.create("fmix", per_sample=True, pairing="roll", spectrum=spectrum)
    plan = mix.draw(chosen(count, height, width, lam=lam))
    own = own_mask(plan, count, height, width).sum(dim=(1, 2))
    assert bool(((own.double() / pixels - lam).abs() < 1 / pixels).all())
    up = own == (lam * pixels).ceil()
    down = own == (lam * pixels).floor()
    assert bool((up | down).all())
    assert_rate(int(up.sum()), count, 0.5)  # a fair coin: |z| < 5, false alarm 6e-7
    # The label weight is the mask's mean, not λ.
    weight = plan.mix_labels(torch.arange(count)).weights[:, 0].double() * pixels
    assert torch.equal(weight.round().long(), own)


@pytest.mark.parametrize("spectrum", ["isotropic", "official"])
def test_a_whole_number_of_pixels_is_kept(spectrum: str) -> None:
    lam = torch.arange(65, dtype=torch.float64) / 64
    lam = torch.cat([lam, lam[:1]])  # an even count, for the alternating images
    mix = augmentations.create("fmix", per_sample=True, pairing="roll", spectrum=spectrum)
    plan = mix.draw(chosen(66, 4, 16, lam=lam))
    own = own_mask(plan, 66, 4, 16).sum(dim=(1, 2))
    assert torch.equal(own, (lam * 64).long())


@pytest.mark.parametrize("spectrum", ["isotropic", "official"])
def test_lambda_one_is_the_identity_and_zero_is_the_partner(spectrum: str) -> None:
    images = torch.rand(20, 3, 16, 24, generator=seeded(0))
    mix = augmentations.create("fmix", per_sample=True, pairing="roll", spectrum=spectrum)
    for lam, expected in ((1.0, images), (0.0, images.roll(-1, 0))):
        plan = mix.draw(chosen(20, 16, 24, lam=torch.full((20,), lam, dtype=torch.float64)))
        assert torch.equal(plan.mix_images(images), expected)


def test_lambda_is_beta_of_alpha() -> None:
    for alpha in (0.5, 1.0, 3.0):
        plan = augmentations.create("fmix", per_sample=True, alpha=alpha).sample(
            (8000, 1, 16, 16), generator=seeded(1)
        )
        own = plan.mix_labels(torch.arange(8000)).weights[:, 0]
        own = own.double() + (torch.rand(8000, generator=seeded(2)) - 0.5) / 256
        # False alarm 1e-6; spreading each weight over its own pixel moves it by less than 1/256.
        assert_distribution(own, beta(alpha, alpha).cdf, 0.02, 0.98)


@pytest.mark.parametrize("decay", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("height", "width"), [*SIZES[2:], (6, 4), (2, 3), (3, 2), (8, 8)])
def test_isotropic_images_are_filtered_white_noise(height: int, width: int, decay: float) -> None:
    """A Gaussian image is known by its covariance: that of white noise, filtered, by numpy."""
    count = (height // 2 + 1) * width * 2
    # The image is linear in its normal numbers: each alone, one per row.
    draws = chosen(
        count, height, width, noise=lambda rows, *size: torch.eye(rows).view(rows, *size)
    )
    made = FMix(per_sample=True, decay=decay)._image(draws).reshape(count, -1).double().numpy()

    down, across = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    scale = 1 / np.maximum(np.hypot(down, across), 1 / max(height, width)) ** decay
    white = np.eye(height * width).reshape(-1, height, width)
    filtered = np.fft.ifft2(np.fft.fft2(white) * scale).real.reshape(height * width, -1)
    covariance, expected = made.T @ made, filtered.T @ filtered
    # The largest of an image don't depend on its contrast.
    covariance *= expected[0, 0] / covariance[0, 0]
    np.testing.assert_allclose(covariance, expected, atol=2e-6 * expected[0, 0])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 64), (31, 20), (20, 31)])
def test_masks_are_the_largest_of_such_an_image(height: int, width: int) -> None:
    """Against sums of waves in double precision, for normal numbers that are given."""
    count = 40
    rows = height // 2 + 1
    noise = torch.randn(count, rows, width, 2, generator=seeded(3))
    lam = torch.rand(count, dtype=torch.float64, generator=seeded(4))
    mix = augmentations.create("fmix", per_sample=True, pairing="roll")
    draws = chosen(count, height, width, lam=lam, noise=lambda *_: noise.clone())
    own = own_mask(mix.draw(draws), count, height, width)

    down, across = np.fft.fftfreq(height)[:rows, None], np.fft.fftfreq(width)[None, :]
    scale = 1 / np.maximum(np.hypot(down, across), 1 / max(height, width)) ** 3
    # Both frequencies j and -j have a row of their own in the spectrum; but 0, and the highest of
    # an even height, where only one has.
    alone = np.arange(rows) * 2 % height == 0
    scale = scale * np.where(alone, np.sqrt(0.5), 1)[:, None]
    waves_down = np.exp(2j * np.pi * np.arange(height)[:, None] * np.arange(rows) / height)
    waves_across = np.exp(2j * np.pi * np.arange(width)[:, None] * np.arange(width) / width)
    parts = noise.double().numpy()
    spectrum = scale * (parts[..., 0] + 1j * parts[..., 1])
    image = (waves_down @ spectrum @ waves_across.T).real.reshape(count, -1)
    disagree = 0
    for index in range(count):
        kept = int(own[index].sum())
        expected = np.zeros(height * width, dtype=bool)
        expected[np.argsort(-image[index])[:kept]] = True
        disagree += int((expected != own[index].flatten().numpy()).sum())
    # Only pixels that single precision can't order may differ.
    assert disagree <= count * height * width * 0.0005


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 64), (31, 20), (4, 3), (5, 1)])
def test_official_masks_are_the_authors(height: int, width: int) -> None:
    """ecs-vlc/FMix, lib/fmix.py, in numpy: the first two rows taken for real and imaginary part."""
    count = 40
    half = np.fft.fftfreq(width)[: width // 2 + (2 if width % 2 else 1)]
    noise = torch.randn(count, height, len(half), 2, generator=seeded(5))
    lam = torch.rand(count, dtype=torch.float64, generator=seeded(6))

    def given(*size: int) -> Tensor:
        assert size == noise.shape
        return noise.clone()

    mix = augmentations.create("fmix", per_sample=True, pairing="roll", spectrum="official")
    draws = chosen(count, height, width, lam=lam, noise=given)
    own = own_mask(mix.draw(draws), count, height, width)

    frequency = np.sqrt(half**2 + np.fft.fftfreq(height)[:, None] ** 2)
    scale = np.ones(1) / np.maximum(frequency, 1 / max(width, height)) ** 3
    disagree = 0
    for index in range(count):
        spectrum = scale[..., None] * noise[index].double().numpy()
        spectrum = spectrum[0] + 1j * spectrum[1]
        image = np.real(np.fft.irfftn(spectrum, (height, width), axes=(0, 1))).ravel()
        kept = int(own[index].sum())
        expected = np.zeros(height * width, dtype=bool)
        expected[np.argsort(-image)[:kept]] = True
        disagree += int((expected != own[index].flatten().numpy()).sum())
    assert disagree <= count * height * width * 0.0005


def test_isotropic_edges() -> None:
    # As many edges downwards as sideways. Complex noise on a half spectrum gives 0.82, 9 standard
    # errors away. |z| < 5: false alarm 6e-7.
    ratio, error = ratio_and_error(*edges(sampled_masks(1500, 32, 32)))
    assert error < 0.018
    assert abs(ratio - 1) < SIGMAS * error
    assert abs(ratio - 0.82) > SIGMAS * error


def test_official_edges_are_far_from_isotropic() -> None:
    ratio, error = ratio_and_error(*edges(sampled_masks(400, 32, 32, spectrum="official")))
    assert abs(ratio - 1) > 0.3
    assert abs(ratio - 1) > 10 * error


def test_sides_are_not_swapped() -> None:
    """Masks of 16 x 64, turned, look like those of 64 x 16; |z| < 5, false alarm 6e-7 each."""
    wide, tall = edges(sampled_masks(800, 16, 64)), edges(sampled_masks(800, 64, 16))
    for one, two in ((wide[0], tall[1]), (wide[1], tall[0])):
        error = float((one.var() / len(one) + two.var() / len(two)).sqrt())
        assert abs(float(one.mean() - two.mean())) < SIGMAS * error
    # And both directions vary: the authors' indexing leaves hardly an edge along the rows.
    assert float(wide[1].mean()) > 0.3 * float(wide[0].mean())


def test_decay_makes_regions() -> None:
    """Without decay it is white noise: half of all neighbours differ at λ = 0.5."""
    half = torch.full((200,), 0.5, dtype=torch.float64)
    shares = []
    for decay in (0.0, 1.0, 3.0):
        mix = augmentations.create("fmix", per_sample=True, pairing="roll", decay=decay)
        masks = own_mask(mix.draw(chosen(200, 32, 32, lam=half)), 200, 32, 32)
        shares.append(float(torch.cat(edges(masks)).mean()))
    # 0.5 of 400,000 neighbours, not all independent: 0.005 is more than 5 standard errors (6e-7).
    assert shares[0] == pytest.approx(512 / 1023, abs=0.005)
    assert shares[0] > 1.3 * shares[1] > 1.3 * 1.5 * shares[2]
    assert shares[2] < 0.1


def test_per_sample_masks_are_all_different() -> None:
    masks = sampled_masks(64, 32, 32)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 64


def soft_mask(plan: Plan, count: int, height: int, width: int) -> Tensor:
    """(count, H, W) float64: how much of each pixel is the sample's own."""
    own = (torch.arange(count) % 2 == 0).double().view(-1, 1, 1, 1)
    mixed = plan.mix_images(own.repeat(1, 1, height, width))[:, 0]
    return torch.where(own[:, 0].bool(), mixed, 1 - mixed)


@pytest.mark.parametrize("max_soft", [0.05, 0.2, 0.5])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 64), (9, 7), (1, 5), (1, 1)])
def test_soft_edges_are_the_authors(height: int, width: int, max_soft: float) -> None:
    """ecs-vlc/FMix, `binarise_mask`: the same values in the order of the hard mask's image."""
    count, size = 60, height * width
    lam = torch.rand(count, dtype=torch.float64, generator=seeded(7))
    noise = torch.randn(count, height // 2 + 1, width, 2, generator=seeded(8))
    mix = augmentations.create("fmix", per_sample=True, pairing="roll", max_soft=max_soft)
    draws = chosen(count, height, width, lam=lam, noise=lambda *_: noise.clone())
    soft = soft_mask(mix.draw(draws), count, height, width).flatten(1).numpy()
    hard = augmentations.create("fmix", per_sample=True, pairing="roll")
    draws = chosen(count, height, width, lam=lam, noise=lambda *_: noise.clone())
    hard_mask = own_mask(hard.draw(draws), count, height, width).flatten(1).numpy()
    for index in range(count):
        wanted = float(lam[index])
        kept = int(hard_mask[index].sum())
        reach = int(size * min(max_soft, wanted, 1 - wanted))
        ranked = np.ones(size)
        ranked[kept - reach :] = 0
        ranked[kept - reach : kept + reach] = np.linspace(1, 0, 2 * reach)
        found = np.sort(soft[index])[::-1]
        np.testing.assert_allclose(found, ranked, atol=1e-6)
        # The ramp goes along the ranks: what the hard mask keeps is above what it leaves.
        if 0 < kept < size:
            assert soft[index][hard_mask[index]].min() >= soft[index][~hard_mask[index]].max()
        assert abs(found.mean() - wanted) < 1.5 / size


def test_soft_edges_draw_nothing_more() -> None:
    for max_soft in (0.0, 0.3):
        generator = seeded(9)
        mix = augmentations.create("fmix", per_sample=True, max_soft=max_soft)
        plan = mix.sample((4, 1, 8, 8), generator=generator)
        after = torch.rand(1, generator=generator)
        labels = plan.mix_labels(torch.arange(4)).labels
        if max_soft == 0:
            expected = after, labels
    assert torch.equal(after, expected[0])
    assert torch.equal(labels, expected[1])


def test_soft_weights_are_the_masks_means() -> None:
    mix = augmentations.create("fmix", per_sample=True, pairing="roll", max_soft=0.25)
    plan = mix.sample((30, 1, 16, 24), generator=seeded(10))
    means = soft_mask(plan, 30, 16, 24).mean(dim=(1, 2))
    weights = plan.mix_labels(torch.arange(30)).weights[:, 0].double()
    torch.testing.assert_close(weights, means, atol=1e-6, rtol=0)
    assert bool(((means > 0.2) & (means < 0.8)).any())
