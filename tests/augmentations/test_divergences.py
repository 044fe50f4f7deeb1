"""What the installed peers do otherwise, and what is done here instead: a test for each row.

The table is in augmentations/README.md. A test that fails after an upgrade of a peer says that the
peer has changed, and that its row must go.
"""

from __future__ import annotations

import inspect
import math
import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.integrations.dropin import SoftTargets
from tests.support.oracles import assert_rate, boxes_of, chosen, one_hot_images, seeded

v2 = pytest.importorskip("torchvision.transforms.v2")
timm_mixup = pytest.importorskip("timm.data.mixup")
timm_erasing = pytest.importorskip("timm.data.random_erasing")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    kornia = pytest.importorskip("kornia.augmentation")

CLASSES = 10


def batch(size: int = 8) -> tuple[Tensor, Tensor]:
    return torch.rand(size, 3, 16, 24, generator=seeded(0)), torch.arange(size) * 3 % CLASSES


def kornias(name: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(kornia, name)(data_keys=["input", "class"], **options)


@pytest.fixture(autouse=True)
def seeds() -> Any:
    """The peers draw from global states: seeded here, and put back."""
    before = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        yield
    np.random.set_state(before[0])
    random.setstate(before[1])


# --- timm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
def test_timm_refuses_an_odd_batch(mode: str) -> None:
    images, labels = batch(7)
    with pytest.raises(AssertionError, match="even"):
        timm_mixup.Mixup(mode=mode, num_classes=CLASSES)(images.clone(), labels)
    mixed, _ = SoftTargets.like_timm(num_classes=CLASSES)(images, labels)
    assert mixed.shape == images.shape


@pytest.mark.parametrize("mode", ["batch", "elem"])
@pytest.mark.parametrize("alphas", [(1.0, 0.0), (0.0, 1.0)], ids=["mixup", "cutmix"])
def test_timm_writes_into_the_batch(mode: str, alphas: tuple[float, float]) -> None:
    images, labels = batch()
    given = images.clone()
    mixed, _ = timm_mixup.Mixup(*alphas, mode=mode, num_classes=CLASSES)(given, labels)
    assert mixed.data_ptr() == given.data_ptr()
    assert not torch.equal(given, images)
    given = images.clone()
    SoftTargets.like_timm(*alphas, mode=mode, num_classes=CLASSES)(given, labels)
    assert torch.equal(given, images)


@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_timm_draws_from_numpys_global_state(mode: str) -> None:
    images, labels = batch()
    mix = timm_mixup.Mixup(mode=mode, num_classes=CLASSES)

    def theirs(torch_seed: int, numpy_seed: int) -> Tensor:
        torch.manual_seed(torch_seed)
        np.random.seed(numpy_seed)
        return mix(images.clone(), labels)[0]

    assert torch.equal(theirs(1, 5), theirs(2, 5))  # torch's seed is not asked
    assert not torch.equal(theirs(1, 5), theirs(1, 6))

    def ours(torch_seed: int, numpy_seed: int) -> Tensor:
        torch.manual_seed(torch_seed)
        np.random.seed(numpy_seed)
        return SoftTargets.like_timm(mode=mode, num_classes=CLASSES)(images, labels)[0]

    assert torch.equal(ours(1, 5), ours(1, 6))
    assert not torch.equal(ours(1, 5), ours(2, 5))


def test_timm_smooths_unless_told_otherwise() -> None:
    images, labels = batch()
    mix = timm_mixup.Mixup(num_classes=CLASSES)
    mix.mixup_enabled = False
    _, soft = mix(images, labels)
    assert float(soft.max()) == pytest.approx(0.91)
    targets = augmentations.create("none")(images, labels, CLASSES).targets
    assert float(targets.dense(CLASSES).max()) == 1


def test_timm_keeps_the_odd_pixel_of_a_cut() -> None:
    """A cut of 15 rows covers 15 there; 7 to both sides of the centre, 14, in the authors' code."""
    lam = 1 - (15.5 / 32) ** 2

    class Centre:
        @staticmethod
        def randint(*_: Any, **__: Any) -> int:
            return 16

    original = timm_mixup.np.random
    try:
        timm_mixup.np.random = Centre
        top, bottom, left, right = timm_mixup.rand_bbox((3, 32, 32), lam)
    finally:
        timm_mixup.np.random = original
    assert (bottom - top, right - left) == (15, 15)
    centre = torch.tensor([16])
    draws = chosen(1, 32, 32, lam=torch.tensor([lam], dtype=torch.float64), centre=(centre, centre))
    plan: Any = augmentations.create("cutmix").draw(draws)
    assert plan.target[0, 0].tolist() == [9, 9, 23, 23]


def test_timm_rounds_the_label_weights_of_half_precision_images() -> None:
    """Mode "elem": λ goes through the images' dtype, bfloat16 has 8 bits of it."""
    images, labels = batch()
    mix = timm_mixup.Mixup(mode="elem", label_smoothing=0.0, num_classes=CLASSES)

    def weights(dtype: torch.dtype) -> Tensor:
        np.random.seed(3)
        return mix(images.to(dtype), torch.arange(8))[1].diagonal()

    exact, rounded = weights(torch.float32), weights(torch.bfloat16)
    assert torch.equal(rounded.float(), exact.bfloat16().float())
    assert float((rounded.float() - exact).abs().max()) > 1e-4

    def ours(dtype: torch.dtype) -> Tensor:
        made = augmentations.create("mixup", per_sample=True)
        return made(images.to(dtype), labels, CLASSES, generator=seeded(3)).targets.weights

    assert torch.equal(ours(torch.bfloat16), ours(torch.float32))


@pytest.mark.parametrize("peer", ["timm", "torchvision", "kornia"])
def test_the_peers_round_half_precision_at_every_step(peer: str) -> None:
    """MixUp of bfloat16 images: some pixels are not the rounded mean; here all are."""
    images = torch.rand(8, 3, 32, 32, generator=seeded(1)).bfloat16()
    labels = torch.arange(8)
    if peer == "timm":
        mixed, soft = timm_mixup.Mixup(label_smoothing=0, num_classes=8)(images.clone(), labels)
        partner, keep = images.flip(0), soft.diagonal()[:1].double()
    elif peer == "torchvision":
        mixed, soft = v2.MixUp(num_classes=8)(images, labels)
        partner, keep = images.roll(1, 0), soft.diagonal()[:1].double()
    else:
        transform = kornias("RandomMixUpV2", same_on_batch=True)
        mixed, found = transform(images, labels)
        partner, keep = images[transform._params["mixup_pairs"]], 1 - found[:1, 2].double()
    wrong = _rounded_wrongly(mixed, images, partner, keep)
    assert wrong > 0.01

    ours = augmentations.create("mixup")(images, labels, 8, generator=seeded(2))
    plan: Any = ours.plan
    keep = ours.targets.weights[:1, 0].double()
    # A share of pixels lies so near to the middle of two numbers that float32 decides otherwise.
    assert _rounded_wrongly(ours.images, images, images[plan.partner], keep) < 1e-3


def _rounded_wrongly(mixed: Tensor, images: Tensor, partner: Tensor, keep: Tensor) -> float:
    exact = images.double() * keep + partner.double() * (1 - keep)
    return float((mixed != exact.bfloat16()).double().mean())


@pytest.mark.parametrize("peer", ["timm", "torchvision"])
def test_the_ignored_label_is_an_error_elsewhere(peer: str) -> None:
    images, labels = batch()
    labels[3] = -100
    transform = (
        timm_mixup.Mixup(num_classes=CLASSES) if peer == "timm" else v2.MixUp(num_classes=CLASSES)
    )
    with pytest.raises((RuntimeError, IndexError)):
        transform(images.clone(), labels)
    mixed = augmentations.create("mixup", pairing="roll")(images, labels, CLASSES)
    dense = mixed.targets.dense(CLASSES)
    own = mixed.targets.weights[:, 0]
    torch.testing.assert_close(dense.sum(dim=1)[3], 1 - own[3])
    torch.testing.assert_close(dense.sum(dim=1)[2], own[2])


# --- Random Erasing -----------------------------------------------------------------------------


def timm_boxes(count: int) -> Tensor:
    erase = timm_erasing.RandomErasing(1.0, min_area=0.02, max_area=0.0200001, device="cpu")
    return _erased(erase(torch.ones(count, 1, 128, 128)))


def torchvision_boxes(count: int) -> Tensor:
    erase = v2.RandomErasing(p=1.0, scale=(0.02, 0.0200001), ratio=(0.3, 1 / 0.3))
    return _erased(torch.stack([erase(torch.ones(1, 128, 128)) for _ in range(count)]))


def our_boxes(count: int) -> Tensor:
    mix = augmentations.create(
        "random_erasing", prob=1.0, min_area=0.02, max_area=0.0200001, fill=0
    )
    plan = mix.sample((count, 1, 128, 128), generator=seeded(5))
    return _erased(plan.mix_images(torch.ones(count, 1, 128, 128)))


def _erased(images: Tensor) -> Tensor:
    return boxes_of(images[:, 0] == 0)


def test_the_aspect_of_random_erasing_is_log_uniform_elsewhere() -> None:
    """Boxes much higher than wide are a half of the oblong ones there, most of them here and in the
    paper. Boxes of one area on 128 x 128, so that none is too large; |z| < 5, false alarm 6e-7.
    """
    # Above 1.2 against below 1/1.2: how likely each is, is known.
    uniform = (1 / 0.3 - 1.2) / ((1 / 0.3 - 1.2) + (1 / 1.2 - 0.3))
    for boxes, rate in (
        (timm_boxes(1500), 0.5),
        (torchvision_boxes(1500), 0.5),
        (our_boxes(1500), uniform),
    ):
        top, left, bottom, right = boxes.unbind(1)
        aspect = (bottom - top) / (right - left)
        high, low = int((aspect > 1.2).sum()), int((aspect < 1 / 1.2).sum())
        assert_rate(high, high + low, rate)


def test_torchvision_erases_one_box_for_the_batch() -> None:
    images = torch.ones(16, 1, 32, 32)
    for _ in range(5):
        boxes = _erased(v2.RandomErasing(p=1.0)(images))
        assert len(boxes.unique(dim=0)) == 1
    rates = {
        float((v2.RandomErasing(p=0.5)(images) == 0).flatten(1).any(dim=1).float().mean())
        for _ in range(20)
    }
    assert rates == {0.0, 1.0}
    mix = augmentations.create("random_erasing", fill=0)
    boxes = _erased(mix.sample(images.shape, generator=seeded(1)).mix_images(images))
    assert len(boxes.unique(dim=0)) > 4


# --- torchvision --------------------------------------------------------------------------------


def test_torchvision_has_one_decision_per_batch() -> None:
    images = one_hot_images(8, 16, 24)
    for transform in (v2.CutMix(num_classes=8), v2.MixUp(num_classes=8)):
        mixed, soft = transform(images, torch.arange(8))
        pictures = torch.stack([mixed[row].roll(-row, dims=0) for row in range(8)])
        assert torch.equal(pictures, pictures[:1].expand_as(pictures))
        assert len(soft.diagonal().unique()) == 1
    for name in ("cutmix", "mixup"):
        mix = augmentations.create(name, per_sample=True)
        weights = mix(images, torch.arange(8), 8, generator=seeded(0)).targets.weights[:, 0]
        assert len(weights.unique()) > 4


def test_torchvision_and_timm_pair_neighbours_or_mirrors() -> None:
    """Who meets whom is fixed: the sample before, and the batch reversed."""
    images = one_hot_images(8, 4, 4)
    labels = torch.arange(8)
    for _ in range(5):
        mixed, _ = v2.MixUp(num_classes=8)(images, labels)
        assert torch.equal(_partners(mixed), labels.roll(1))
        mixed, _ = timm_mixup.Mixup(num_classes=8)(images.clone(), labels)
        assert torch.equal(_partners(mixed), labels.flip(0))
    mix = augmentations.create("mixup")
    found = {
        tuple(mix.sample(images.shape, generator=seeded(seed)).partner.tolist())  # type: ignore[attr-defined]
        for seed in range(5)
    }
    assert len(found) == 5


def _partners(mixed: Tensor) -> Tensor:
    share = mixed.mean(dim=(2, 3))
    share.fill_diagonal_(-1)
    return share.argmax(dim=1)


@pytest.mark.parametrize(
    "call",
    [
        v2.CutMix,
        v2.MixUp,
        v2.CutMix.forward,
        v2.MixUp.forward,
        v2.RandomErasing,
        timm_mixup.Mixup,
        timm_mixup.Mixup.__call__,
        timm_erasing.RandomErasing,
        kornia.RandomCutMixV2,
        kornia.RandomMixUpV2,
        kornia.RandomMixUpV2.forward,
    ],
    ids=lambda call: call.__qualname__,
)
def test_no_peer_takes_a_generator(call: Any) -> None:
    assert "generator" not in inspect.signature(call).parameters
    assert "generator" in inspect.signature(augmentations.Method.__call__).parameters


# --- kornia -------------------------------------------------------------------------------------


def test_kornias_lambda_weights_the_partner() -> None:
    images = one_hot_images(8, 4, 4)
    transform = kornias("RandomMixUpV2")
    mixed, found = transform(images, torch.arange(8))
    own, other, lam = found.unbind(1)
    for row in range(8):
        if own[row] != other[row]:
            torch.testing.assert_close(mixed[row, int(other[row])].mean(), lam[row])
            torch.testing.assert_close(mixed[row, int(own[row])].mean(), 1 - lam[row])
    plan = augmentations.create("mixup", per_sample=True, pairing="roll").sample(
        images.shape, generator=seeded(0)
    )
    targets = plan.mix_labels(torch.arange(8))
    assert torch.equal(targets.labels[:, 0], torch.arange(8))
    shown = plan.mix_images(images).mean(dim=(2, 3)).diagonal()
    torch.testing.assert_close(targets.weights[:, 0], shown)


def test_kornias_cutmix_gives_the_area_cut_unless_told_otherwise() -> None:
    images = one_hot_images(8, 16, 24)
    with pytest.warns(DeprecationWarning, match="use_correct_lambda"):
        transform = kornia.RandomCutMixV2(data_keys=["input", "class"])
    mixed, found = transform(images, torch.arange(8))
    own, other, lam = found[0].unbind(1)
    kept = mixed.mean(dim=(2, 3)).diagonal()
    apart = own != other
    torch.testing.assert_close(lam[apart], 1 - kept[apart])


def test_kornia_places_the_box_inside() -> None:
    """No box is clipped: its area is (1 - λ) but for rounding, so E[λ] stays 0.5."""
    areas = []
    transform = kornias("RandomCutMixV2")
    for _ in range(20):
        _, found = transform(torch.zeros(100, 1, 32, 32), torch.arange(100))
        areas.append(found[0, :, 2])
    cut = float(torch.cat(areas).mean())

    def ours(placement: str) -> float:
        mix = augmentations.create("cutmix", placement=placement, per_sample=True)
        plan = mix.sample((2000, 1, 32, 32), generator=seeded(0))
        return float(plan.mix_labels(torch.arange(2000)).weights[:, 1].mean())

    # Standard error of each mean: 0.29 / sqrt(2000) = 0.0065 at most; 5 of the difference: 0.046.
    assert abs(cut - ours("inside")) < 5 * math.sqrt(2) * 0.0065
    assert cut - ours("clipped") > 0.1


def test_kornia_takes_no_soft_labels() -> None:
    images, _ = batch()
    soft = torch.rand(8, CLASSES, generator=seeded(1)).softmax(dim=1)
    with pytest.raises(RuntimeError):
        kornias("RandomMixUpV2")(images, soft)
    dense = augmentations.create("mixup")(images, soft, CLASSES).targets.dense(CLASSES)
    torch.testing.assert_close(dense.sum(dim=1), torch.ones(8))


def test_torchvision_changes_a_batch_by_one_operation() -> None:
    torch.manual_seed(2)  # its draws
    images = (
        (torch.rand(1, 3, 12, 12, generator=seeded(1)) * 255).to(torch.uint8).expand(6, -1, -1, -1)
    )
    theirs = v2.TrivialAugmentWide()(images)
    assert torch.equal(theirs, theirs[:1].expand_as(theirs))
    ours = augmentations.create("trivial_augment")(
        images / 255, torch.arange(6), 6, seeded(1), normalisation=(0, 1)
    )
    assert not torch.equal(ours.images, ours.images[:1].expand_as(ours.images))


def test_torchvisions_augmix_has_thirteen_operations() -> None:
    theirs = v2.AugMix()
    assert theirs.all_ops and len(theirs._AUGMENTATION_SPACE) == 13
    assert int(theirs._AUGMENTATION_SPACE["Posterize"][0](10, 8, 8).max()) == 4
