"""What every registered method must do, in batch and per-sample mode, whatever its formula.

A method added to the registry is tested here without a change, unless it keeps labels.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import augmentations
from tests.augmentations.pixels import (
    DEVICES,
    SIGMAS,
    assert_rate,
    dense_from,
    one_hot_images,
    pixel_shares,
    seeded,
)

NAMES = augmentations.available()
# These blank pixels (or nothing) and leave labels as they are; all others copy or blend.
KEEP_LABELS = {"none", "cutout", "random_erasing"}
SIZES = [(1, 1), (16, 64), (64, 16), (7, 9), (8, 8), (1, 5), (5, 1)]
BATCHES = [1, 2, 3, 7]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

each_method = pytest.mark.parametrize("name", NAMES)
each_mixing = pytest.mark.parametrize("name", [name for name in NAMES if name not in KEEP_LABELS])
each_mode = pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per_sample"])
each_device = pytest.mark.parametrize("device", DEVICES)
# Fixed examples: a failure must not depend on the day.
searched = settings(max_examples=30, deadline=None, derandomize=True, database=None)


def always(name: str, per_sample: bool, **parameters: Any) -> Any:
    """The method, mixing every sample (random erasing's default is one in two)."""
    return augmentations.create(name, **{"prob": 1.0, "per_sample": per_sample, **parameters})


def noise(
    batch: int,
    channels: int,
    height: int,
    width: int,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Tensor:
    values = torch.rand(batch, channels, height, width, generator=seeded(seed)) + 0.5
    return values.to(device=device, dtype=dtype)


def labels_for(batch: int, classes: int = 10, device: str = "cpu") -> Tensor:
    return (torch.arange(batch, device=device) * 3 + 1) % classes


def test_the_papers_methods_are_registered() -> None:
    expected = {"none", "mixup", "cutmix", "cutout", "random_erasing", "ricap", "fmix"}
    assert expected <= set(NAMES)
    assert list(NAMES) == sorted(NAMES)


# --- what comes back ----------------------------------------------------------------------------


@each_method
@each_mode
@each_device
@searched
@given(
    batch=st.sampled_from(BATCHES),
    channels=st.sampled_from([1, 2, 3]),
    size=st.sampled_from(SIZES),
    dtype=st.sampled_from(DTYPES),
    channels_last=st.booleans(),
    prob=st.sampled_from([0.0, 0.5, 1.0]),
    pairing=st.sampled_from(["permute", "derange", "roll", "flip"]),
    soft=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_batch_gives_a_batch_of_its_kind(
    name: str,
    per_sample: bool,
    device: str,
    batch: int,
    channels: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    channels_last: bool,
    prob: float,
    pairing: str,
    soft: bool,
    seed: int,
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = noise(batch, channels, *size, device=device, dtype=dtype, seed=seed)
    images = images.contiguous(memory_format=layout)
    labels = labels_for(batch, device=device)
    if soft:
        labels = torch.rand(batch, 10, generator=seeded(seed)).softmax(dim=1).to(device)
    images_before, labels_before = images.clone(), labels.clone()
    versions = images._version, labels._version

    mix = always(name, per_sample, prob=prob, pairing=pairing)
    mixed = mix(images, labels, num_classes=10, generator=seeded(seed, device))

    assert mixed.images.shape == images.shape
    assert mixed.images.dtype == dtype
    assert mixed.images.device == images.device
    assert mixed.images.is_contiguous(memory_format=layout)
    assert bool(mixed.images.isfinite().all())
    if name not in KEEP_LABELS:
        # A copy or a weighted mean: no value that was not between those of the batch.
        assert mixed.images.max() <= images.max()
        assert mixed.images.min() >= images.min()

    targets = mixed.targets
    assert targets.labels.dtype == torch.int64
    assert targets.weights.dtype == torch.float32
    assert targets.labels.shape == targets.weights.shape
    assert targets.labels.shape[0] == batch
    assert targets.labels.device == targets.weights.device == images.device
    assert bool((targets.weights >= 0).all())
    torch.testing.assert_close(
        targets.weights.sum(dim=1), torch.ones(batch, device=device), atol=1e-6, rtol=0
    )
    if soft:
        assert targets.labels.shape[1] == 10
    else:
        assert targets.labels.shape[1] == {"ricap": 4}.get(name, 1 if name in KEEP_LABELS else 2)
        assert set(targets.labels.flatten().tolist()) <= set(labels.tolist())
    dense = targets.dense(10)
    assert dense.dtype == torch.float32
    torch.testing.assert_close(
        dense.cpu().double(),
        dense_from(targets.labels.cpu(), targets.weights.cpu(), 10),
        atol=1e-6,
        rtol=0,
    )

    # Nothing was written to the input, not even the same values.
    assert torch.equal(images, images_before)
    assert torch.equal(labels, labels_before)
    assert (images._version, labels._version) == versions


@each_method
@each_mode
@each_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rectangular", [False, True])
def test_channels_last_changes_the_layout_only(
    name: str, per_sample: bool, device: str, dtype: torch.dtype, rectangular: bool
) -> None:
    images = noise(6, 3, 16, 64 if rectangular else 16, device=device, dtype=dtype)
    last = images.contiguous(memory_format=torch.channels_last)
    for seed in range(3):
        plan = always(name, per_sample).sample(
            images.shape, device=device, generator=seeded(seed, device)
        )
        mixed, mixed_last = plan.mix_images(images), plan.mix_images(last)
        assert mixed.is_contiguous()
        assert mixed_last.is_contiguous(memory_format=torch.channels_last)
        assert not mixed_last.is_contiguous()
        # The batch's mean colour may be summed in another order.
        torch.testing.assert_close(mixed_last, mixed)


@each_method
@each_mode
def test_images_that_are_a_view_keep_their_values(name: str, per_sample: bool) -> None:
    """A crop of a larger tensor (neither layout) and an expanded image mix as their copies do."""
    crop = noise(5, 3, 12, 12)[:, :, 2:10, 1:9]
    shared = noise(1, 3, 8, 8).expand(5, -1, -1, -1)
    plan = always(name, per_sample).sample(crop.shape, generator=seeded(1))
    for view in (crop, shared):
        torch.testing.assert_close(plan.mix_images(view), plan.mix_images(view.contiguous()))


# --- randomness ---------------------------------------------------------------------------------


def numpy_state() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    return state[1].tolist(), state[2]


def global_states() -> tuple[Any, ...]:
    states: list[Any] = [torch.get_rng_state(), numpy_state(), random.getstate()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return tuple(state.tolist() if isinstance(state, Tensor) else state for state in states)


@each_method
@each_mode
@each_device
def test_a_generator_is_the_only_source_of_randomness(
    name: str, per_sample: bool, device: str
) -> None:
    images, labels = noise(6, 3, 8, 8, device=device), labels_for(6, device=device)
    mix = augmentations.create(name, per_sample=per_sample, prob=0.5)
    before = global_states()
    for seed in range(3):
        mix(images, labels, num_classes=10, generator=seeded(seed, device))
    assert global_states() == before


@each_method
@each_mode
@each_device
def test_without_a_generator_torchs_default_one_is_used(
    name: str, per_sample: bool, device: str
) -> None:
    images, labels = noise(6, 3, 8, 8, device=device), labels_for(6, device=device)
    mix = augmentations.create(name, per_sample=per_sample, prob=0.9)
    saved = torch.get_rng_state()
    others = random.getstate(), numpy_state()
    try:
        torch.manual_seed(11)
        by_default = mix(images, labels, num_classes=10)
    finally:
        torch.set_rng_state(saved)
    explicit = mix(images, labels, num_classes=10, generator=seeded(11, device))
    assert torch.equal(by_default.images, explicit.images)
    assert torch.equal(by_default.targets.weights, explicit.targets.weights)
    assert (random.getstate(), numpy_state()) == others


@each_method
@each_mode
@each_device
def test_the_seed_decides(name: str, per_sample: bool, device: str) -> None:
    images, labels = noise(7, 3, 16, 16, device=device), labels_for(7, device=device)
    mix = augmentations.create(name, per_sample=per_sample)

    def run(generator: torch.Generator) -> Any:
        return mix(images, labels, num_classes=10, generator=generator)

    first, again = run(seeded(3, device)), run(seeded(3, device))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.targets.labels, again.targets.labels)
    assert torch.equal(first.targets.weights, again.targets.weights)
    if name == "none":
        return
    one = seeded(3, device)
    stream = [run(one).images for _ in range(12)]
    seeds = [run(seeded(seed, device)).images for seed in range(12)]
    # Two draws of 12 may agree (an empty box, a coin that says "leave" twice); not most of them.
    for results in (stream, seeds):
        assert len({tuple(result.flatten().tolist()) for result in results}) >= 6


@each_method
@each_mode
def test_sampling_never_waits_for_the_device(name: str, per_sample: bool) -> None:
    """On the meta device there are no values: reading one back on the host raises."""
    images = torch.empty(6, 3, 16, 64, device="meta")
    labels = torch.empty(6, dtype=torch.int64, device="meta")
    mixed = augmentations.create(name, per_sample=per_sample, prob=0.5)(images, labels, 10)
    assert mixed.images.shape == images.shape
    assert mixed.images.device.type == "meta"
    assert mixed.targets.weights.shape[0] == 6
    assert mixed.plan.mix_features(torch.empty(6, 5, 4, 16, device="meta")).shape == (6, 5, 4, 16)


@each_method
@each_mode
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_no_synchronisation_on_cuda(name: str, per_sample: bool) -> None:
    images, labels = noise(6, 3, 16, 16, device="cuda"), labels_for(6, device="cuda")
    mix = augmentations.create(name, per_sample=per_sample, prob=0.5)
    generator = seeded(0, "cuda")
    mix(images, labels, num_classes=10, generator=generator)  # plans of the FFT are made here
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mix(images, labels, num_classes=10, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- labels follow the pixels -------------------------------------------------------------------


@each_mixing
@each_mode
@each_device
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("pairing", ["permute", "roll"])
def test_label_shares_are_pixel_shares(
    name: str, per_sample: bool, device: str, size: tuple[int, int], pairing: str
) -> None:
    """Exactly: with one-hot images, whole pixels are counted; a blend's mean is compared."""
    pixels = size[0] * size[1]
    for batch in (1, 2, 7):
        images = one_hot_images(batch, *size, device=device)
        mix = always(name, per_sample, pairing=pairing, prob=0.8)
        for seed in range(4):
            mixed = mix(
                images,
                torch.arange(batch, device=device),
                num_classes=batch,
                generator=seeded(seed, device),
            )
            shares = pixel_shares(mixed.images.cpu())
            claimed = dense_from(
                mixed.targets.labels.cpu(), mixed.targets.weights.cpu(), num_classes=batch
            )
            whole = bool(((mixed.images == 0) | (mixed.images == 1)).all())
            if whole:
                counts = (shares * pixels).round()
                assert torch.equal((claimed * pixels).round(), counts)
            torch.testing.assert_close(claimed, shares, atol=1e-6, rtol=0)


@each_mixing
@each_mode
def test_constant_images_show_the_weights(name: str, per_sample: bool) -> None:
    """Each image one colour: a mixed image has, on average, the label-weighted colour."""
    colours = torch.rand(7, 3, generator=seeded(9)) * 10 - 5
    images = colours.view(7, 3, 1, 1).repeat(1, 1, 16, 24)
    mix = always(name, per_sample)
    for seed in range(5):
        mixed = mix(images, torch.arange(7), num_classes=7, generator=seeded(seed))
        weights = mixed.targets.dense(7).double()
        expected = weights @ colours.double()
        torch.testing.assert_close(
            mixed.images.double().mean(dim=(2, 3)), expected, atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("name", sorted(KEEP_LABELS))
@each_mode
def test_methods_that_blank_keep_labels_and_all_other_pixels(name: str, per_sample: bool) -> None:
    images, labels = noise(7, 3, 16, 64), labels_for(7)
    fill = {} if name == "none" else {"fill": -1.0}
    for seed in range(5):
        mixed = always(name, per_sample, **fill)(images, labels, 10, generator=seeded(seed))
        assert torch.equal(mixed.targets.labels, labels.view(7, 1))
        assert torch.equal(mixed.targets.weights, torch.ones(7, 1))
        blank = (mixed.images == -1).all(dim=1, keepdim=True)  # no input pixel is negative
        assert torch.equal(torch.where(blank, images, mixed.images), images)
        assert bool(blank.any()) == (name != "none")


# --- prob and per_sample ------------------------------------------------------------------------


@each_method
@each_mode
@each_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_prob_0_is_the_identity(
    name: str, per_sample: bool, device: str, dtype: torch.dtype
) -> None:
    images = noise(7, 3, 16, 64, device=device, dtype=dtype)
    labels = labels_for(7, device=device)
    mix = augmentations.create(name, per_sample=per_sample, prob=0.0)
    for seed in range(3):
        mixed = mix(images, labels, num_classes=10, generator=seeded(seed, device))
        assert torch.equal(mixed.images, images)
        assert torch.equal(mixed.targets.dense(10), F.one_hot(labels, 10).float())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_prob_is_applied_once_per_sample(name: str) -> None:
    # A sample may stay as it is though it is mixed (an empty box): that rate is measured with
    # prob=1, and with prob=0.3 a sample must change 0.3 times as often. Twice the coin would give
    # 0.09. The bound is 5 standard errors of the two rates: false alarm 6e-7 a method. A coin that
    # the batch shares would give 0 or 1 times the rate.
    total, prob = 6000, 0.3
    images = noise(total, 1, 8, 8)

    def changed(prob: float, seed: int) -> int:
        plan = always(name, True, pairing="derange", prob=prob).sample(
            images.shape, generator=seeded(seed)
        )
        return int((plan.mix_images(images) != images).flatten(1).any(dim=1).sum())

    full = changed(1.0, seed=1) / total
    assert full > 0.5
    rate = changed(prob, seed=2) / total
    variance = prob * full * (1 - prob * full) / total + prob**2 * full * (1 - full) / total
    assert abs(rate - prob * full) < SIGMAS * variance**0.5


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_prob_is_applied_once_per_batch(name: str) -> None:
    # As above, over 600 batches of 3; and a batch is changed as a whole or not at all.
    images, total, prob = noise(3, 1, 8, 8), 600, 0.3

    def changed(prob: float, seed: int) -> int:
        mix = always(name, False, pairing="derange", prob=prob)
        generator, hits = seeded(seed), 0
        for _ in range(total):
            plan = mix.sample(images.shape, generator=generator)
            differs = (plan.mix_images(images) != images).flatten(1).any(dim=1)
            assert bool(differs.all()) == bool(differs.any())
            hits += bool(differs.any())
        return hits

    full = changed(1.0, seed=1) / total
    assert full > 0.5
    rate = changed(prob, seed=2) / total
    variance = prob * full * (1 - prob * full) / total + prob**2 * full * (1 - full) / total
    assert abs(rate - prob * full) < SIGMAS * variance**0.5


def test_the_realised_rate_is_prob() -> None:
    # MixUp with a derangement changes every sample that it mixes: the rate is prob itself.
    # |z| < 5: false alarm 6e-7.
    images = noise(20000, 1, 1, 1)
    mix = augmentations.create("mixup", prob=0.35, per_sample=True, pairing="derange")
    plan = mix.sample(images.shape, generator=seeded(4))
    own = plan.mix_labels(torch.arange(20000)).weights[:, 0]
    assert_rate(int((own < 1).sum()), 20000, 0.35)


@each_method
def test_one_draw_for_the_batch_or_one_per_sample(name: str) -> None:
    """With "roll", channels turned back by b show the same picture for all b, or not."""
    batch = 8
    images = one_hot_images(batch, 16, 24)

    def pictures(per_sample: bool, seed: int) -> Tensor:
        mix = always(name, per_sample, pairing="roll")
        mixed = mix.sample(images.shape, generator=seeded(seed)).mix_images(images)
        return torch.stack([mixed[index].roll(-index, dims=0) for index in range(batch)])

    for seed in range(10):
        shared = pictures(False, seed)
        torch.testing.assert_close(shared, shared[:1].expand_as(shared), atol=1e-6, rtol=0)
    if name != "none":
        for seed in range(3):
            apart = pictures(True, seed).flatten(1).round(decimals=5)
            assert len({tuple(picture.tolist()) for picture in apart}) > batch // 2


# --- one plan, many things ----------------------------------------------------------------------


@each_method
@each_mode
@each_device
def test_a_plan_replays(name: str, per_sample: bool, device: str) -> None:
    images, labels = noise(7, 3, 16, 24, device=device), labels_for(7, device=device)
    mix = augmentations.create(name, per_sample=per_sample, prob=0.7)
    for seed in range(4):
        mixed = mix(images, labels, num_classes=10, generator=seeded(seed, device))
        plan = mix.sample(images.shape, device=device, generator=seeded(seed, device))
        for again in (mixed.plan, mixed.plan, plan):
            assert torch.equal(again.mix_images(images), mixed.images)
            targets = again.mix_labels(labels, num_classes=10)
            assert torch.equal(targets.labels, mixed.targets.labels)
            assert torch.equal(targets.weights, mixed.targets.weights)


@each_method
@each_mode
def test_hard_and_soft_labels_agree(name: str, per_sample: bool) -> None:
    labels = labels_for(7)
    soft = torch.rand(7, 10, generator=seeded(1)).softmax(dim=1)
    for seed in range(4):
        plan = augmentations.create(name, per_sample=per_sample, prob=0.8).sample(
            (7, 3, 16, 24), generator=seeded(seed)
        )
        hard = plan.mix_labels(labels, num_classes=10).dense(10)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            one_hot = F.one_hot(labels, 10).to(dtype)
            torch.testing.assert_close(
                plan.mix_labels(one_hot, num_classes=10).dense(10), hard, atol=1e-6, rtol=0
            )
        # The mix of any soft labels is that of their sources.
        by_source = plan.mix_labels(torch.arange(7), num_classes=7).dense(7) @ soft
        torch.testing.assert_close(
            plan.mix_labels(soft, num_classes=10).dense(10), by_source, atol=1e-6, rtol=0
        )


@each_mixing
@each_mode
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.int32], ids=str)
def test_integer_masks_take_the_class_of_the_larger_share(
    name: str, per_sample: bool, dtype: torch.dtype
) -> None:
    images = one_hot_images(7, 16, 24)
    classes = torch.arange(7, dtype=dtype)
    masks = classes.view(7, 1, 1).repeat(1, 16, 24)
    before = masks.clone()
    for seed in range(5):
        plan = always(name, per_sample, prob=0.8).sample(images.shape, generator=seeded(seed))
        mixed = plan.mix_masks(masks)
        assert mixed.dtype == dtype
        assert mixed.shape == masks.shape
        # One-hot images tell whose pixel it is; MixUp shows both, and the larger share counts.
        shares = plan.mix_images(images)
        assert torch.equal(mixed, shares.argmax(dim=1).to(dtype))
        sources = plan.mix_labels(torch.arange(7), num_classes=7).labels
        for row in range(7):
            assert set(mixed[row].unique().tolist()) <= set(sources[row].tolist())
        stacked = plan.mix_masks(masks.unsqueeze(1).repeat(1, 2, 1, 1))
        assert torch.equal(stacked, mixed.unsqueeze(1).repeat(1, 2, 1, 1))
        finer = plan.mix_masks(masks.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2))
        assert torch.equal(finer, mixed.repeat_interleave(2, 1).repeat_interleave(2, 2))
        assert torch.equal(masks, before)


@each_mixing
@each_mode
def test_float_masks_and_features_of_the_image_size_mix_as_images_do(
    name: str, per_sample: bool
) -> None:
    images = noise(7, 3, 16, 24)
    for seed in range(4):
        plan = always(name, per_sample).sample(images.shape, generator=seeded(seed))
        mixed = plan.mix_images(images)
        assert torch.equal(plan.mix_masks(images), mixed)
        assert torch.equal(plan.mix_features(images), mixed)
        deep = images.unsqueeze(2).repeat(1, 1, 4, 1, 1)
        assert torch.equal(plan.mix_features(deep), mixed.unsqueeze(2).repeat(1, 1, 4, 1, 1))


@pytest.mark.parametrize("name", sorted(KEEP_LABELS))
@each_mode
def test_methods_that_blank_keep_masks(name: str, per_sample: bool) -> None:
    masks = torch.randint(0, 5, (7, 16, 24), generator=seeded(0))
    plan = always(name, per_sample).sample((7, 3, 16, 24), generator=seeded(1))
    assert torch.equal(plan.mix_masks(masks), masks)


@each_mixing
@each_mode
@each_device
@pytest.mark.parametrize("size", [(4, 12), (8, 24), (5, 7), (1, 1), (32, 96)], ids=str)
def test_features_at_another_resolution_keep_the_shares(
    name: str, per_sample: bool, device: str, size: tuple[int, int]
) -> None:
    images = one_hot_images(7, 16, 48, device=device)
    features = one_hot_images(7, *size, device=device)
    # An edge moves by half a cell at most. RICAP has the most: one cut down and one across, each
    # of which moves the shares of all sources by less than one cell of that side.
    bound = 1 / size[0] + 1 / size[1]
    for seed in range(4):
        generator = seeded(seed, device)
        plan = always(name, per_sample).sample(images.shape, device=device, generator=generator)
        mixed = plan.mix_features(features)
        assert mixed.shape == features.shape
        # Every cell is made of whole samples: nothing is left empty and nothing doubled.
        torch.testing.assert_close(mixed.sum(dim=1), torch.ones_like(mixed[:, 0]))
        difference = pixel_shares(mixed.cpu()) - pixel_shares(plan.mix_images(images).cpu())
        assert float(difference.abs().max()) <= bound


@each_method
@each_mode
@each_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_feature_vectors_are_mixed_with_the_label_weights(
    name: str, per_sample: bool, device: str, dtype: torch.dtype
) -> None:
    labels = torch.arange(7, device=device)
    plan = always(name, per_sample).sample(
        (7, 3, 16, 24), device=device, generator=seeded(2, device)
    )
    mixed = plan.mix_features(torch.eye(7, device=device, dtype=dtype))
    assert mixed.dtype == dtype
    torch.testing.assert_close(mixed, plan.mix_labels(labels, num_classes=7).dense(7).to(dtype))


@each_method
@each_mode
@each_device
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_rounded_once(
    name: str, per_sample: bool, device: str, dtype: torch.dtype
) -> None:
    images = noise(7, 3, 16, 24, device=device, dtype=dtype)
    for seed in range(4):
        plan = always(name, per_sample).sample(
            images.shape, device=device, generator=seeded(seed, device)
        )
        in_full = plan.mix_images(images.float())
        assert torch.equal(plan.mix_images(images), in_full.to(dtype))


@each_method
@each_mode
@each_device
def test_gradients_flow(name: str, per_sample: bool, device: str) -> None:
    """Mixing is linear in the images: <g, mix(x)> = <gradient, x> for any g."""
    images = noise(5, 3, 16, 24, device=device)
    weight = noise(5, 3, 16, 24, device=device, seed=1)
    for seed in range(3):
        plan = always(name, per_sample).sample(
            images.shape, device=device, generator=seeded(seed, device)
        )
        for mix, shape in (
            (plan.mix_images, images.shape),
            (plan.mix_features, images.shape),
            (plan.mix_features, (5, 1152)),
        ):
            given_images = images.clone().reshape(shape).requires_grad_()
            mixed = mix(given_images)
            value = (weight.reshape(shape) * mixed).sum()
            (gradient,) = torch.autograd.grad(value, given_images)
            assert bool(gradient.isfinite().all())
            assert float(gradient.abs().sum()) > 0
            torch.testing.assert_close((gradient * images.reshape(shape)).sum(), value)


@each_method
@each_mode
def test_autocast_changes_nothing(name: str, per_sample: bool) -> None:
    """A training loop may mix under autocast: weights stay float32, features exact."""
    images, labels = noise(7, 3, 16, 24), labels_for(7)
    soft = torch.rand(7, 10, generator=seeded(3)).softmax(dim=1)
    vectors, maps = noise(7, 20, 1, 1).flatten(1), noise(7, 20, 4, 6)
    logits = torch.randn(7, 10, generator=seeded(5))

    def everything() -> tuple[Tensor, ...]:
        plan = always(name, per_sample).sample(images.shape, generator=seeded(2))
        results = [plan.mix_images(images), plan.mix_features(vectors), plan.mix_features(maps)]
        for given_labels in (labels, soft):
            targets = plan.mix_labels(given_labels, num_classes=10)
            results += [targets.weights, targets.dense(10), targets.cross_entropy(logits)]
        return tuple(results)

    outside = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = everything()
    for one, two in zip(outside, inside, strict=True):
        assert one.dtype == two.dtype == torch.float32
        torch.testing.assert_close(one, two)


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"), [("cutmx", "cutmix"), ("MixUp", "mixup"), ("ricapp", "ricap")]
)
def test_an_unknown_method_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    for function in (augmentations.create, augmentations.describe):
        with pytest.raises(ValueError, match=f"did you mean '{right}'") as caught:
            function(wrong)
        assert wrong in str(caught.value)
        assert all(name in str(caught.value) for name in NAMES)
        assert "\n" not in str(caught.value)


def test_a_hopeless_name_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="cutmix") as caught:
        augmentations.create("qqqqqqq")
    assert "did you mean" not in str(caught.value)


@each_method
def test_an_unknown_parameter_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match="did you mean 'pairing'") as caught:
        augmentations.create(name, paring="roll")
    message = str(caught.value)
    assert name in message
    assert "prob" in message
    assert "per_sample" in message
    assert "\n" not in message


def test_a_parameter_of_another_method_is_unknown() -> None:
    with pytest.raises(ValueError, match="no parameter 'alhpa'; did you mean 'alpha'"):
        augmentations.create("cutmix", alhpa=1.0)
    with pytest.raises(ValueError, match="mixup has no parameter 'placement'"):
        augmentations.create("mixup", placement="inside")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("mixup", "alpha", 0),
        ("mixup", "alpha", -1.0),
        ("mixup", "alpha", "0.2"),
        ("mixup", "alpha", float("nan")),
        ("mixup", "alpha", float("inf")),
        ("mixup", "alpha", True),
        ("mixup", "alpha", None),
        ("cutmix", "prob", 1.5),
        ("cutmix", "prob", -0.1),
        ("cutmix", "per_sample", 1),
        ("cutmix", "per_sample", "true"),
        ("cutmix", "placement", "outside"),
        ("cutmix", "pairing", "random"),
        ("cutout", "size", 0),
        ("cutout", "size", 2.5),
        ("cutout", "fill", "median"),
        ("random_erasing", "min_area", 0.0),
        ("random_erasing", "max_area", 1.1),
        ("random_erasing", "min_aspect", 1.5),
        ("ricap", "beta", 0),
        ("fmix", "decay", -1),
        ("fmix", "spectrum", "white"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(name: str, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}\.{key}: got .*, expected ") as caught:
        augmentations.create(name, **{key: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_taken_in_either_type() -> None:
    assert augmentations.create("cutout", size=8.0) == augmentations.create("cutout", size=8)
    assert augmentations.resolve("mixup", {"alpha": 1})["alpha"] == 1.0
    assert isinstance(augmentations.resolve("mixup", {"alpha": 1})["alpha"], float)


@each_method
def test_resolve_and_describe_list_every_parameter(name: str) -> None:
    resolved = augmentations.resolve(name, {})
    info = augmentations.describe(name)
    assert {parameter.name: parameter.default for parameter in info.parameters} == resolved
    assert {"prob", "per_sample", "pairing"} <= set(resolved)
    assert augmentations.resolve(name, resolved) == resolved
    assert info.name == name
    assert info.summary
    assert all(parameter.doc and parameter.allowed for parameter in info.parameters)
    assert (info.paper is None) == (name == "none")


@each_method
@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(4, 3, 8),
        torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 3, 8, 8),
        torch.zeros(4, 3, 0, 8),
    ],
    ids=["three dimensions", "uint8", "empty batch", "no rows"],
)
def test_images_of_a_wrong_kind_are_refused(name: str, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected .*\(B, C, H, W\).* got"):
        augmentations.create(name)(images, labels_for(images.shape[0]), num_classes=10)


@each_method
@pytest.mark.parametrize(
    "labels",
    [
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(4, dtype=torch.int32),
        torch.zeros(4, 9),
        torch.zeros(4, 10, dtype=torch.int64),
        torch.tensor([0, 1, 2, 10]),
        torch.tensor([0, 1, 2, -100]),
    ],
    ids=["count", "int32", "classes", "integer rows", "too large", "the ignored label"],
)
def test_labels_of_a_wrong_kind_are_refused(name: str, labels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"labels: expected .* got"):
        augmentations.create(name)(torch.zeros(4, 3, 8, 8), labels, num_classes=10)


@each_method
def test_labels_on_another_device_are_refused(name: str) -> None:
    labels = torch.zeros(4, dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match="labels"):
        augmentations.create(name)(torch.zeros(4, 3, 8, 8), labels, num_classes=10)


@each_method
@each_mode
def test_a_plan_refuses_another_batch_or_size(name: str, per_sample: bool) -> None:
    plan = augmentations.create(name, per_sample=per_sample).sample((4, 3, 8, 12))
    with pytest.raises(ValueError, match="images: expected"):
        plan.mix_images(torch.zeros(5, 3, 8, 12))
    with pytest.raises(ValueError, match="labels: expected"):
        plan.mix_labels(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="features: expected"):
        plan.mix_features(torch.zeros(5, 16))
    with pytest.raises(ValueError, match="masks: expected"):
        plan.mix_masks(torch.zeros(5, 8, 12, dtype=torch.int64))
    if name in ("cutmix", "cutout", "random_erasing", "ricap", "fmix"):
        with pytest.raises(ValueError, match="images: expected"):
            plan.mix_images(torch.zeros(4, 3, 12, 8))


# --- the loss -----------------------------------------------------------------------------------


@each_method
@each_mode
@each_device
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_cross_entropy_is_torchs(
    name: str, per_sample: bool, device: str, label_smoothing: float, soft: bool
) -> None:
    """Three ways that must agree, in value and gradient: ours, dense targets, weighted sum."""
    labels = labels_for(7, device=device)
    if soft:
        labels = torch.rand(7, 10, generator=seeded(3)).softmax(dim=1).to(device)
    plan = always(name, per_sample).sample((7, 3, 8, 8), device=device)
    targets = plan.mix_labels(labels, num_classes=10)
    scores = (torch.randn(7, 10, generator=seeded(5)) * 4).to(device)

    def ours(logits: Tensor, reduction: str) -> Tensor:
        return targets.cross_entropy(logits, label_smoothing, reduction)

    def with_dense(logits: Tensor, reduction: str) -> Tensor:
        return F.cross_entropy(
            logits, targets.dense(10), label_smoothing=label_smoothing, reduction=reduction
        )

    def weighted_sum(logits: Tensor, reduction: str) -> Tensor:
        loss = torch.zeros(7, device=device)
        for column in range(targets.labels.shape[1]):
            index_loss = F.cross_entropy(
                logits,
                targets.labels[:, column],
                label_smoothing=label_smoothing,
                reduction="none",
            )
            loss = loss + targets.weights[:, column] * index_loss
        return {"mean": loss.mean(), "sum": loss.sum(), "none": loss}[reduction]

    for reduction in ("mean", "sum", "none"):
        results = []
        for function in (ours, with_dense, weighted_sum):
            logits = scores.clone().requires_grad_()
            value = function(logits, reduction)
            (gradient,) = torch.autograd.grad(value.sum(), logits)
            results.append((value.detach(), gradient))
        for value, gradient in results[1:]:
            torch.testing.assert_close(results[0][0], value)
            torch.testing.assert_close(results[0][1], gradient)


def test_cross_entropy_by_hand() -> None:
    """Logits ln 1, ln 2, ln 5: probabilities 1/8, 2/8, 5/8."""
    targets = augmentations.Targets(torch.tensor([[1, 2]]), torch.tensor([[0.25, 0.75]]))
    logits = torch.tensor([[1.0, 2.0, 5.0]]).log()
    expected = -(0.25 * np.log(2 / 8) + 0.75 * np.log(5 / 8))
    assert float(targets.cross_entropy(logits)) == pytest.approx(expected, abs=1e-6)
    uniform = -(np.log(1 / 8) + np.log(2 / 8) + np.log(5 / 8)) / 3
    assert float(targets.cross_entropy(logits, 0.3)) == pytest.approx(
        0.7 * expected + 0.3 * uniform, abs=1e-6
    )


def test_cross_entropy_computes_in_float32() -> None:
    targets = augmentations.Targets(torch.tensor([[1], [0]]), torch.ones(2, 1))
    logits = torch.randn(2, 10, generator=seeded(0)).bfloat16()
    loss = targets.cross_entropy(logits)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, targets.cross_entropy(logits.float()))


def test_an_unknown_reduction_is_named() -> None:
    targets = augmentations.Targets(torch.tensor([[1]]), torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"reduction: got 'max', expected mean, sum or none"):
        targets.cross_entropy(torch.zeros(1, 2), reduction="max")


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", augmentations.available())
def test_the_default_dtype_changes_nothing(name: str, default: torch.dtype) -> None:
    def mixed() -> tuple[torch.Tensor, ...]:
        images = torch.arange(4 * 12 * 8, dtype=torch.float16).view(4, 1, 12, 8)
        generator = torch.Generator().manual_seed(3)
        batch = augmentations.create(name)(images, torch.arange(4), 4, generator=generator)
        vectors = batch.plan.mix_features(torch.ones(4, 3, dtype=torch.float32))
        maps = batch.plan.mix_features(torch.ones(4, 3, 6, 4, dtype=torch.float32))
        return batch.images, batch.targets.weights, vectors, maps

    expected = mixed()
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        found = mixed()
    finally:
        torch.set_default_dtype(before)
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_two_methods_of_one_name_are_refused(tmp_path, monkeypatch) -> None:
    import augmentations.methods
    from augmentations import registry

    source = (Path(augmentations.methods.__file__).parent / "cutmix.py").read_text()
    (tmp_path / "copied.py").write_text(source)
    monkeypatch.setattr(
        augmentations.methods, "__path__", [*augmentations.methods.__path__, str(tmp_path)]
    )
    registry._methods.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"two augmentations are named 'cutmix'.*copied"):
            augmentations.available()
    finally:
        registry._methods.cache_clear()
        monkeypatch.undo()
        sys.modules.pop("augmentations.methods.copied", None)
