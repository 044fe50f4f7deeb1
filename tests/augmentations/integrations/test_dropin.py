"""The drop-ins, each in the loop that it is made for."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset, default_collate

from mixbench import augmentations
from mixbench.augmentations.integrations.dropin import (
    Collate,
    MixBatches,
    MixTransform,
    SoftTargets,
)
from tests.support.mixing_collate import MixingCollate
from tests.support.oracles import assert_rate, one_hot_images, pixel_shares, seeded

v2 = pytest.importorskip("torchvision.transforms.v2")
tv_tensors = pytest.importorskip("torchvision.tv_tensors")
timm_data = pytest.importorskip("timm.data")
timm_loss = pytest.importorskip("timm.loss")

CLASSES = 10
METHODS = {name: augmentations.create(name) for name in augmentations.available()}
NAMES = [
    name
    for name, mix in METHODS.items()
    if not (mix.deepest or mix.has_loss or mix.needs - {"images", "labels"})
]


def batch(size: int = 7) -> tuple[Tensor, Tensor]:
    return torch.rand(size, 3, 12, 8, generator=seeded(0)), torch.arange(size) * 3 % CLASSES


# --- (images, labels) -> (images, soft) ---------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_soft_targets_are_the_methods_own(name: str) -> None:
    images, labels = batch()
    mix = augmentations.create(name, per_sample=True, prob=0.8)
    mixed, soft = SoftTargets(mix, CLASSES, generator=seeded(3))(images, labels)
    expected = mix(images, labels, CLASSES, generator=seeded(3))
    assert torch.equal(mixed, expected.images)
    assert torch.equal(soft, expected.targets.dense(CLASSES))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_loss_with_soft_targets_is_the_targets_own(smoothing: float) -> None:
    """timm's and torch's losses of the soft labels, with the smoothing in them."""
    images, labels = batch()
    mix = augmentations.create("ricap")
    soft_targets = SoftTargets(mix, CLASSES, label_smoothing=smoothing, generator=seeded(4))
    _, soft = soft_targets(images, labels)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(7))
    targets = mix(images, labels, CLASSES, generator=seeded(4)).targets
    logits = torch.randn(7, CLASSES, generator=seeded(5))
    expected = targets.cross_entropy(logits, label_smoothing=smoothing)
    torch.testing.assert_close(timm_loss.SoftTargetCrossEntropy()(logits, soft), expected)
    torch.testing.assert_close(F.cross_entropy(logits, soft), expected)


@pytest.mark.parametrize("name", ["none", "cutmix", "ricap"])
def test_smoothing_gives_no_weight_to_what_is_ignored(name: str) -> None:
    """The loss of soft labels is the weighted sum of torch's smoothed index losses."""
    images, labels = batch()
    labels[::2] = -100
    mix = augmentations.create(name)
    soft_targets = SoftTargets(mix, CLASSES, label_smoothing=0.1, generator=seeded(4))
    _, soft = soft_targets(images, labels)
    targets = mix(images, labels, CLASSES, generator=seeded(4)).targets
    logits = torch.randn(7, CLASSES, generator=seeded(5))
    expected = targets.cross_entropy(logits, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(F.cross_entropy(logits, soft, reduction="none"), expected)
    if name == "none":
        assert not soft[::2].any()


def test_it_can_be_turned_off_as_timms() -> None:
    images, labels = batch()
    soft_targets = SoftTargets.like_timm(num_classes=CLASSES)
    soft_targets.mixup_enabled = False
    mixed, soft = soft_targets(images, labels)
    assert torch.equal(mixed, images)
    expected = F.one_hot(labels, CLASSES) * 0.9 + 0.01
    torch.testing.assert_close(soft, expected)


@pytest.mark.parametrize(
    ("arguments", "name", "prob"),
    [
        ({"mixup_alpha": 0.8}, "mixup", 1.0),
        ({"mixup_alpha": 0, "cutmix_alpha": 1.0, "prob": 0.5}, "cutmix", 0.5),
        ({"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "switch_prob": 0.3}, "choice", 1.0),
    ],
)
@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_timms_arguments_mean_what_they_mean_there(
    arguments: dict[str, Any], name: str, prob: float, mode: str
) -> None:
    made = SoftTargets.like_timm(**arguments, mode=mode, num_classes=CLASSES)
    assert made.label_smoothing == timm_data.Mixup().label_smoothing == 0.1
    mix: Any = made.mix
    assert (mix.name, mix.prob, mix.pairing) == (name, prob, "flip")
    assert mix.per_sample == (mode == "elem")
    if name == "choice":
        assert [(one.name, one.alpha) for one in mix.methods] == [("mixup", 0.8), ("cutmix", 1.0)]
        assert list(mix.weights) == [0.7, 0.3]
        assert {one.pairing for one in mix.methods} == {"flip"}
        assert {one.per_sample for one in mix.methods} == {mode == "elem"}


def test_the_defaults_are_timms() -> None:
    import inspect

    theirs = inspect.signature(timm_data.Mixup).parameters
    ours = inspect.signature(SoftTargets.like_timm).parameters
    assert list(theirs) == [name for name in ours if name != "generator"]
    for name, parameter in theirs.items():
        assert ours[name].default == parameter.default, name


def test_switch_prob_is_the_rate_of_cutmix() -> None:
    soft_targets = SoftTargets.like_timm(
        0.8, 1.0, switch_prob=0.2, mode="elem", num_classes=2, generator=seeded(0)
    )
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)]).repeat(3000, 1, 1, 1)
    labels = torch.tensor([0, 1]).repeat(3000)
    mixed, _ = soft_targets(images, labels)
    # A box leaves whole pixels, also an empty one; a mean leaves none.
    whole = ((mixed == 0) | (mixed == 1)).flatten(1).all(dim=1)
    assert_rate(int(whole.sum()), 6000, 0.2)


@pytest.mark.parametrize("multi_label", [False, True])
def test_smoothing_is_timms(multi_label: bool) -> None:
    """Fed the same λ, timm's mixup_target gives the same soft labels."""
    images, labels = batch(8)
    given: Tensor = labels
    if multi_label:
        given = torch.randint(0, 2, (8, CLASSES), generator=seeded(1)).float()
    soft_targets = SoftTargets.like_timm(
        num_classes=CLASSES, multi_label=multi_label, generator=seeded(2)
    )
    _, soft = soft_targets(images, given)
    plan = soft_targets.mix.sample(images.shape, generator=seeded(2))
    lam = float(plan.mix_labels(labels).weights[0, 0])
    expected = timm_data.mixup.mixup_target(given, CLASSES, lam, 0.1, multi_label)
    torch.testing.assert_close(soft, expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "pair"}, "mode: expected 'batch' or 'elem', got 'pair'"),
        ({"mode": "half"}, "mode: expected"),
        ({"cutmix_minmax": (0.2, 0.8)}, r"cutmix_minmax: expected None, got \(0.2, 0.8\)"),
        ({"correct_lam": "no"}, "correct_lam: expected True or False, got 'no'"),
        ({"switch_prob": 1.5}, "switch_prob: expected from 0 to 1, got 1.5"),
        ({"mixup_alpha": 0.0}, "mixup_alpha, cutmix_alpha: expected at least one above 0"),
        ({"mixup_alpha": -1.0}, "mixup.alpha: got -1.0, expected a number above 0"),
        ({"prob": 2}, "mixup.prob: got 2, expected"),
        ({"label_smoothing": 2}, "label_smoothing: expected from 0 to 1, got 2"),
    ],
)
def test_what_is_not_here_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        SoftTargets.like_timm(**arguments)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_method_is_refused() -> None:
    wrong: Any = "cutmix"
    for make in (SoftTargets, MixTransform, Collate):
        with pytest.raises(ValueError, match=r"mix: expected mixbench\.create"):
            make(wrong, CLASSES)
        # Its labels would be mixed, and its images not.
        with pytest.raises(ValueError, match="mix: manifold_mixup mixes inside the network"):
            make(augmentations.create("manifold_mixup"), CLASSES)


# --- a transform --------------------------------------------------------------------------------


def test_the_transform_in_torchvisions_compose() -> None:
    _, labels = batch()
    images = torch.randint(0, 256, (7, 3, 12, 8), dtype=torch.uint8, generator=seeded(0))
    mix = augmentations.create("cutmix", per_sample=True)
    transform = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.25] * 3),
            MixTransform(mix, CLASSES, generator=seeded(1)),
        ]
    )
    mixed, soft = transform(images, labels)
    normalised = (images / 255 - 0.5) / 0.25
    expected = mix(normalised, labels, CLASSES, generator=seeded(1))
    torch.testing.assert_close(mixed, expected.images)
    assert torch.equal(soft, expected.targets.dense(CLASSES))
    torch.testing.assert_close(
        F.cross_entropy(torch.zeros(7, CLASSES), soft), torch.tensor(10.0).log()
    )


def test_the_transform_stands_where_torchvisions_own_does() -> None:
    """Called in every way that v2.CutMix is, it gives what that gives, of the same types."""
    images, labels = batch()
    mix = augmentations.create("cutmix")
    for given in (images, tv_tensors.Image(images)):
        ours, theirs = MixTransform(mix, CLASSES), v2.CutMix(num_classes=CLASSES)
        for call in (
            lambda transform, x: transform(x, labels),
            lambda transform, x: transform((x, labels)),
            lambda transform, x: transform([x, labels]),
        ):
            found, expected = call(ours, given), call(theirs, given)
            assert type(found) is type(expected)
            for one, other in zip(found, expected, strict=True):
                assert type(one) is type(other)
                assert one.shape == other.shape
                assert one.dtype == other.dtype


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((torch.zeros(2, 1, 4, 4),), "expected images and labels, got Tensor"),
        ((torch.zeros(2, 1, 4, 4), torch.zeros(2), 3), "images and labels, got a tuple of 3"),
        ((torch.zeros(2, 1, 4, 4), "cat"), "expected two tensors, got Tensor and str"),
        ((torch.zeros(2, 1, 4, 4), torch.zeros(2)), "labels: expected"),
        ((torch.zeros(2, 1, 4, 4).byte(), torch.zeros(2).long()), "images: expected"),
    ],
)
def test_the_transform_says_what_it_expects(inputs: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MixTransform(augmentations.create("cutmix"), CLASSES)(*inputs)


def test_the_transform_shows_its_method() -> None:
    shown = repr(MixTransform(augmentations.create("cutmix", alpha=0.2), CLASSES))
    assert "CutMix(" in shown and "alpha=0.2" in shown and "num_classes=10" in shown


# --- a DataLoader -------------------------------------------------------------------------------


def loader(workers: int, seed: int = 0, **options: Any) -> DataLoader[Any]:
    dataset = TensorDataset(one_hot_images(24, 8, 8), torch.arange(24))
    mix = augmentations.create("mixup", per_sample=True, pairing="derange")
    return DataLoader(
        dataset,
        batch_size=6,
        num_workers=workers,
        collate_fn=Collate(mix, 24),
        generator=seeded(seed),
        multiprocessing_context="fork" if workers else None,
        **options,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_out_mixed(workers: int) -> None:
    batches = list(loader(workers))
    assert len(batches) == 4
    for images, soft in batches:
        assert images.shape == (6, 24, 8, 8)
        # One-hot images: the pixels say which labels, and how much of each.
        torch.testing.assert_close(pixel_shares(images).float(), soft, atol=1e-6, rtol=0)
        assert bool((soft.max(dim=1).values < 1).all())


def test_workers_mix_with_seeds_of_their_own() -> None:
    first, second = loader(2), loader(2)
    epochs = [[soft for _, soft in first] for _ in range(2)]
    again = [[soft for _, soft in second] for _ in range(2)]
    strengths = [soft.max(dim=1).values.sort().values for epoch in epochs for soft in epoch]
    for one in range(len(strengths)):
        for other in range(one):
            assert not torch.allclose(strengths[one], strengths[other]), (other, one)
    # A loader whose generator has the same seed gives the same batches, epoch by epoch.
    for epoch, repeated in zip(epochs, again, strict=True):
        for soft, same in zip(epoch, repeated, strict=True):
            assert torch.equal(soft, same)
    assert not torch.equal(next(iter(loader(2, seed=1)))[1], epochs[0][0])


@pytest.mark.parametrize(
    ("start", "persistent"), [("fork", False), ("fork", True), ("spawn", True)]
)
def test_a_seeded_transform_does_not_repeat_in_workers(start: str, persistent: bool) -> None:
    """Two workers, two epochs: all batches differ; a loader of the same seed gives them again."""

    def epochs(seed: int) -> list[list[Tensor]]:
        batches = DataLoader(
            TensorDataset(torch.zeros(16, 1, 2, 2), torch.arange(16)),
            batch_size=4,
            num_workers=2,
            collate_fn=MixingCollate(16),
            generator=seeded(seed),
            multiprocessing_context=start,
            persistent_workers=persistent,
        )
        return [soft for _ in range(2) for soft in batches]

    first = epochs(0)
    assert len(first) == 8
    strengths = [tuple(soft.max(dim=1).values.tolist()) for batch in first for soft in batch[:2]]
    assert len(set(strengths)) == 16
    assert len({tuple(batch[2].flatten().tolist()) for batch in first}) == 8
    if start == "fork":
        for one, other in zip(first, epochs(0), strict=True):
            assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
        assert not torch.equal(epochs(1)[0][0], first[0][0])


def test_a_generator_made_in_the_worker_is_used_as_it_is() -> None:
    data = TensorDataset(torch.zeros(12, 1, 2, 2), torch.arange(12) % 3)
    loader = DataLoader(
        data,
        batch_size=3,
        num_workers=2,
        collate_fn=MixingCollate(3, made_here=True),
        multiprocessing_context="fork",
    )
    batches = [soft for (soft,) in loader]
    assert all(torch.equal(batch, batches[0]) for batch in batches)


def test_a_generator_in_the_main_process_goes_on() -> None:
    images, labels = batch()
    mix = augmentations.create("mixup")
    transform, expected = MixTransform(mix, CLASSES, generator=seeded(0)), seeded(0)
    for _ in range(2):
        _, soft = transform(images, labels)
        assert torch.equal(soft, mix(images, labels, CLASSES, expected).targets.dense(CLASSES))


def test_collate_in_a_worker_leaves_what_others_hold() -> None:
    """It writes over the batch that torch's collate made there, over no other one."""

    def others(_samples: list[Any]) -> tuple[Tensor, Tensor]:
        return held

    held = one_hot_images(6, 4, 4).share_memory_(), torch.arange(6)
    data = TensorDataset(*held)
    mix = augmentations.create("cutmix", pairing="roll", placement="inside")
    for collate in (default_collate, others):
        loader = DataLoader(
            data,
            batch_size=6,
            num_workers=1,
            collate_fn=Collate(mix, 6, collate=collate),
            multiprocessing_context="fork",
        )
        for images, soft in loader:
            torch.testing.assert_close(pixel_shares(images).float(), soft, atol=1e-6, rtol=0)
        assert torch.equal(held[0], one_hot_images(6, 4, 4))


def test_workers_that_stay_go_on() -> None:
    kept = loader(1, persistent_workers=True)
    epochs = [torch.cat([soft for _, soft in kept]) for _ in range(2)]
    assert not torch.equal(*epochs)


def test_collate_travels_to_spawned_workers() -> None:
    collate = Collate(augmentations.create("cutmix"), CLASSES, label_smoothing=0.1)
    assert pickle.loads(pickle.dumps(collate)) == collate  # noqa: S301  (our own bytes)


def test_collate_takes_another_collate() -> None:
    def reversed_pair(samples: list[Any]) -> Any:
        images, labels = torch.utils.data.default_collate(samples)
        return images.flip(0), labels.flip(0)

    images, labels = batch()
    collate = Collate(augmentations.create("none"), CLASSES, collate=reversed_pair)
    mixed, soft = collate(list(zip(images, labels, strict=True)))
    assert torch.equal(mixed, images.flip(0))
    assert torch.equal(soft.argmax(dim=1), labels.flip(0))


@pytest.mark.parametrize("samples", [[torch.zeros(1, 4, 4)] * 3, [{"image": torch.zeros(1)}] * 2])
def test_collate_says_what_it_expects(samples: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"Collate: expected samples \(image, label\), got"):
        Collate(augmentations.create("cutmix"), CLASSES)(samples)


# --- Lightning ----------------------------------------------------------------------------------


class Callback:
    """Lightning's base class has every hook, with no effect."""

    def on_train_batch_start(self, *_: Any) -> None: ...

    def on_train_batch_end(self, *_: Any) -> None: ...


class Mix(MixBatches, Callback):
    pass


def fit(callbacks: list[Any], batches: list[Any]) -> list[Any]:
    """The order of Lightning's training epoch: hooks get the batch that training_step gets."""
    seen = []
    for number, given in enumerate(batches):
        for callback in callbacks:
            callback.on_train_batch_start(None, None, given, number)
        seen.append(given)
        for callback in callbacks:
            callback.on_train_batch_end(None, None, None, given, number)
    return seen


def test_a_lightning_callback_mixes_the_batch_that_the_step_sees() -> None:
    images, labels = batch()
    dataset = TensorDataset(images, labels)
    mix = augmentations.create("mixup", pairing="derange")
    callback = Mix(SoftTargets(mix, CLASSES, generator=seeded(2)))
    (seen,) = fit([callback], list(DataLoader(dataset, batch_size=7)))
    expected = mix(images, labels, CLASSES, generator=seeded(2))
    assert torch.equal(seen[0], expected.images)
    assert torch.equal(seen[1], expected.targets.dense(CLASSES))
    with pytest.raises(ValueError, match=r"expected a list .* got a tuple of 2"):
        fit([callback], [(images, labels)])
