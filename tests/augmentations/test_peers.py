"""The same draws, fed to torchvision, timm and kornia where they are right, give the same batch.

Where they are not, see test_divergences.py.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mixbench import augmentations
from mixbench.augmentations.integrations.dropin import SoftTargets
from tests.support.oracles import boxes_of, chosen, seeded

v2 = pytest.importorskip("torchvision.transforms.v2")
timm_mixup = pytest.importorskip("timm.data.mixup")
kornia = pytest.importorskip("kornia.augmentation")
CLASSES = 10


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(7, 3, 16, 24, generator=seeded(0))
    return images, torch.tensor([1, 0, 4, 9, 4, 2, 7])


def torchvisions(
    transform: Any, images: torch.Tensor, labels: torch.Tensor, decision: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """torchvision pairs i with i - 1 and ours "roll" i with i + 1: the batch is turned round."""
    images, labels = images.flip(0), labels.flip(0)
    decision = {**decision, "labels": labels, "batch_size": len(labels)}
    mixed = transform.transform(images, decision)
    soft = transform.transform(labels, decision)
    return mixed.flip(0), soft.flip(0)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_as_torchvision(seed: int) -> None:
    images, labels = batch()
    ours = augmentations.create("mixup", pairing="roll")(
        images, labels, CLASSES, generator=seeded(seed)
    )
    decision = {"lam": float(ours.targets.weights[0, 0])}
    theirs, soft = torchvisions(v2.MixUp(num_classes=CLASSES), images, labels, decision)
    torch.testing.assert_close(ours.images, theirs)
    torch.testing.assert_close(ours.targets.dense(CLASSES), soft)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_as_torchvision(seed: int) -> None:
    images, labels = batch()
    ours = augmentations.create("cutmix", pairing="roll")(
        images, labels, CLASSES, generator=seeded(seed)
    )
    changed = (ours.images != images).any(dim=1)
    top, left, bottom, right = boxes_of(changed)[0].tolist()
    decision = {
        "box": (left, top, right, bottom),
        "lam_adjusted": 1 - (right - left) * (bottom - top) / (16 * 24),
    }
    theirs, soft = torchvisions(v2.CutMix(num_classes=CLASSES), images, labels, decision)
    assert torch.equal(ours.images, theirs)
    torch.testing.assert_close(ours.targets.dense(CLASSES), soft)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_as_timm(smoothing: float) -> None:
    """timm mixes smoothed one-hot labels with the batch reversed; we smooth in the loss."""
    images, labels = batch()
    logits = torch.randn(7, CLASSES, generator=seeded(1))
    for seed in range(5):
        ours = augmentations.create("mixup", pairing="flip")(
            images, labels, CLASSES, generator=seeded(seed)
        )
        soft = timm_mixup.mixup_target(
            labels, CLASSES, lam=float(ours.targets.weights[0, 0]), smoothing=smoothing
        )
        if not smoothing:
            torch.testing.assert_close(ours.targets.dense(CLASSES), soft)
        torch.testing.assert_close(
            ours.targets.cross_entropy(logits, label_smoothing=smoothing),
            F.cross_entropy(logits, soft),
        )


# --- their own draws, answered -------------------------------------------------------------------


class NumpyAnswers:
    """numpy's global functions, as timm asks them: one λ and centre per sample."""

    def __init__(self, lam: list[float], rows: list[int], columns: list[int]) -> None:
        self.lam = np.array(lam)
        self.centres = [side for centre in zip(rows, columns, strict=True) for side in centre]

    def beta(self, _one: float, _other: float, size: int | None = None) -> Any:
        return self.lam if size else self.lam[0]

    def rand(self, *size: int) -> Any:
        return np.zeros(size) if size else 0.0

    def randint(self, _low: int, _high: int, size: int | None = None) -> int:
        assert size is None
        return self.centres.pop(0)


class Given:
    """A distribution that gives this λ."""

    def __init__(self, lam: float) -> None:
        self.lam = lam

    def sample(self, *_: Any) -> float:
        return self.lam


def even_cut(lam: float, height: int, width: int) -> bool:
    ratio = math.sqrt(1 - lam)
    return int(height * ratio) % 2 == 0 and int(width * ratio) % 2 == 0


def draws_for(batch_size: int, height: int, width: int, seed: int, even: bool) -> tuple[Any, ...]:
    """λ and centres of as many samples; cuts of even sides only where timm is right for them."""
    state = np.random.default_rng(seed)
    lam: list[float] = []
    while len(lam) < batch_size:
        value = float(np.float32(state.random()))
        if not even or even_cut(value, height, width):
            lam.append(value)
    rows = state.integers(0, height, batch_size).tolist()
    columns = state.integers(0, width, batch_size).tolist()
    return lam, rows, columns


@pytest.mark.parametrize(
    ("method", "corrected"), [("mixup", True), ("cutmix", True), ("cutmix", False)]
)
@pytest.mark.parametrize("mode", ["batch", "elem"])
@pytest.mark.parametrize("size", [(16, 24), (33, 17)])
def test_the_whole_of_timms_mixup(
    method: str,
    corrected: bool,
    mode: str,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """timm's Mixup from images and labels to images and soft labels, in both of its modes."""
    labels = torch.tensor([1, 0, 4, 9, 4, 2, 7, 3])
    for seed in range(8):
        images = torch.rand(8, 3, *size, generator=seeded(seed))
        rows = 8 if mode == "elem" else 1
        lam, down, across = draws_for(rows, *size, seed=seed, even=method == "cutmix")
        draws = chosen(
            rows,
            *size,
            lam=torch.tensor(lam, dtype=torch.float64),
            centre=(torch.tensor(down), torch.tensor(across)),
        )
        object.__setattr__(draws, "batch", 8)
        arguments = {
            "mixup_alpha": float(method == "mixup"),
            "cutmix_alpha": float(method == "cutmix"),
            "mode": mode,
            "correct_lam": corrected,
            "label_smoothing": 0.0,
            "num_classes": CLASSES,
        }
        plan = SoftTargets.like_timm(**arguments).mix.draw(draws).expand(8)
        theirs = timm_mixup.Mixup(**arguments)
        with monkeypatch.context() as patched:
            patched.setattr(timm_mixup.np, "random", NumpyAnswers(lam, down, across))
            expected, soft = theirs(images.clone(), labels)
        mixed = plan.mix_images(images)
        if method == "cutmix":
            assert torch.equal(mixed, expected)
        else:
            torch.testing.assert_close(mixed, expected)
        torch.testing.assert_close(plan.mix_labels(labels).dense(CLASSES), soft)


@pytest.mark.parametrize("size", [(16, 24), (33, 17), (1, 7)])
def test_the_whole_of_torchvisions_cutmix(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its box too, for odd cuts as for even ones, from the same λ and centre."""
    labels = torch.tensor([1, 0, 4, 9, 4, 2, 7])
    changed = 0
    for seed in range(30):
        images = torch.rand(7, 3, *size, generator=seeded(seed))
        (lam,), (row,), (column,) = draws_for(1, *size, seed=seed, even=False)
        theirs = v2.CutMix(num_classes=CLASSES)
        answers = [torch.tensor([column]), torch.tensor([row])]
        with monkeypatch.context() as patched:
            patched.setattr(theirs, "_dist", Given(lam))
            patched.setattr(torch, "randint", lambda *_, answers=answers, **__: answers.pop(0))
            expected, soft = theirs(images.flip(0), labels.flip(0))
        draws = chosen(
            1,
            *size,
            lam=torch.tensor([lam], dtype=torch.float64),
            centre=(torch.tensor([row]), torch.tensor([column])),
        )
        object.__setattr__(draws, "batch", 7)
        plan = augmentations.create("cutmix", pairing="roll").draw(draws).expand(7)
        mixed = plan.mix_images(images)
        assert torch.equal(mixed, expected.flip(0))
        torch.testing.assert_close(plan.mix_labels(labels).dense(CLASSES), soft.flip(0))
        changed += bool((mixed != images).any())
    assert size == (1, 7) or changed > 20


@pytest.mark.parametrize("seed", range(3))
def test_kornias_mixup_with_its_lambda_turned_round(seed: int) -> None:
    images, labels = batch()
    theirs = kornia.RandomMixUpV2(data_keys=["input", "class"])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mixed, (own, other, share) = _kornia(theirs, images, labels)
    partner = theirs._params["mixup_pairs"]
    keep = 1 - theirs._params["mixup_lambdas"]
    plan = augmentations.Blend(keep.view(-1, 1, 1, 1), partner)
    torch.testing.assert_close(plan.mix_images(images), mixed)
    targets = plan.mix_labels(labels)
    assert torch.equal(targets.labels, torch.stack([own.long(), other.long()], dim=1))
    torch.testing.assert_close(targets.weights[:, 0], 1 - share)


@pytest.mark.parametrize("seed", range(3))
def test_kornias_cutmix_with_the_right_lambda(seed: int) -> None:
    """Its boxes are those of placement="inside"; with use_correct_lambda the labels are ours."""
    images, labels = batch()
    theirs = kornia.RandomCutMixV2(data_keys=["input", "class"], use_correct_lambda=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mixed, (own, other, share) = _kornia(theirs, images, labels)
    corners = theirs._params["crop_src"][0].long()
    left, top = corners[:, 0].unbind(1)
    right, bottom = (corners[:, 2] + 1).unbind(1)
    target = torch.stack([top, left, bottom, right], dim=1).unsqueeze(1)
    partner = theirs._params["mix_pairs"][0].unsqueeze(1)
    plan = augmentations.Paste((16, 24), target, partner)
    assert torch.equal(plan.mix_images(images), mixed)
    targets = plan.mix_labels(labels)
    assert torch.equal(targets.labels, torch.stack([own.long(), other.long()], dim=1))
    torch.testing.assert_close(targets.weights[:, 0], share)


def _kornia(transform: Any, images: torch.Tensor, labels: torch.Tensor) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixed, found = transform(images, labels)
    return mixed, found.reshape(-1, 3).unbind(1)
