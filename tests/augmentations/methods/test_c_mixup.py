"""C-Mixup: partners by a Gaussian kernel of the labels' distances; values blend as images do."""

from __future__ import annotations

import math

import torch

from mixbench import augmentations
from tests.support.oracles import assert_rate, seeded


def test_partners_come_by_the_distance_of_their_labels() -> None:
    values, bandwidth, each = [0.0, 0.1, 0.3, 0.6], 0.25, 100
    labels = torch.tensor(values).repeat_interleave(each).view(-1, 1)
    images = labels.view(-1, 1, 1, 1)
    mix = augmentations.create("c_mixup", bandwidth=bandwidth)
    generator, met = seeded(0), torch.zeros(4, 4)
    for _ in range(20):
        plan = mix.sample(images.shape, generator=generator, labels=labels)
        groups = torch.arange(4).repeat_interleave(each)
        sources = plan.mix_labels(torch.arange(4 * each)).labels
        for group in range(4):
            met[group] += groups[sources[groups == group, 1]].bincount(minlength=4)
    for group, value in enumerate(values):
        chances = [math.exp(-((value - other) ** 2) / (2 * bandwidth**2)) for other in values]
        for other, chance in enumerate(chances):
            assert_rate(int(met[group, other]), 20 * each, chance / sum(chances))


def test_values_blend_as_the_images_do() -> None:
    values = torch.rand(16, 2, generator=seeded(1))
    images = values.view(16, 2, 1, 1).repeat(1, 1, 4, 4)
    mix = augmentations.create("c_mixup", bandwidth=0.3, per_sample=True)
    batch = mix(images, values, generator=seeded(2))
    predicted = batch.targets.dense(2)
    assert (predicted - values).abs().max() > 0.05
    torch.testing.assert_close(predicted, batch.images.mean(dim=(2, 3)))


def test_classes_meet_their_own_and_other_pairings_are_mixup() -> None:
    classes = torch.arange(30) % 3
    images = torch.rand(30, 1, 4, 4, generator=seeded(3))
    batch = augmentations.create("c_mixup")(images, classes, 3, seeded(4))
    labels = batch.targets.labels
    assert torch.equal(classes[labels[:, 0]], classes[labels[:, 1]])
    assert not torch.equal(batch.images, images)
    mixup = augmentations.create("mixup", alpha=2.0, pairing="roll")
    usual = augmentations.create("c_mixup", pairing="roll")
    assert "labels" not in usual.needs
    assert torch.equal(
        usual(images, classes, 3, seeded(5)).images, mixup(images, classes, 3, seeded(5)).images
    )
