"""Partners of the same class, and of another one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mixbench
from mixbench.augmentations.sampling.class_partners import other_class, same_class
from tests.support.oracles import assert_uniform_counts, seeded


def drawn(pairing: str, labels: Tensor, seed: int) -> Tensor:
    mix = mixbench.create("mixup", pairing=pairing)
    shape = (len(labels), 1, 4, 4)
    partner = mix.sample(shape, generator=seeded(seed), labels=labels).sources()[0][:, 1]
    assert partner.shape == labels.shape
    return partner


def test_classes_are_kept_or_left_and_each_sample_is_a_partner_once_where_that_can_be() -> None:
    random = seeded(0)
    for seed in range(200):
        count = int(torch.randint(1, 13, (), generator=random))
        labels = torch.randint(-1, 4, (count,), generator=random)
        labels[labels == -1] = -100  # ignored labels pair as a class of their own
        size = (labels.unsqueeze(0) == labels.unsqueeze(1)).sum(dim=1)
        same, other = drawn("same_class", labels, seed), drawn("other_class", labels, seed)
        assert torch.equal(labels[same], labels)
        assert torch.equal(same != torch.arange(count), size > 1)
        assert sorted(same.tolist()) == list(range(count))
        if bool((size == count).all()):
            assert torch.equal(other, torch.arange(count))
            continue
        assert (labels[other] != labels).all()
        if int(size.max()) * 2 <= count:
            assert sorted(other.tolist()) == list(range(count))


def assert_alike(counts: Tensor) -> None:
    if len(counts) > 1:
        assert_uniform_counts(counts.numpy())


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 0, 1, 2, 2], [0, 0, 0, 0, 0, 1, 1, 2]], ids=str)
def test_partners_are_uniform_over_those_allowed(labels: list[int]) -> None:
    classes, draws = torch.tensor(labels), 2000
    same = torch.zeros(8, 8, dtype=torch.int64)
    other = torch.zeros(8, 8, dtype=torch.int64)
    generator, row = seeded(1), torch.arange(8)
    for _ in range(draws):
        order = torch.randperm(8, generator=generator)
        unit = torch.rand(3, 8, dtype=torch.float64, generator=generator)
        same[row, same_class(classes, order)] += 1
        other[row, other_class(classes, order, unit)] += 1
    alike = classes.unsqueeze(0) == classes.unsqueeze(1)
    for sample in range(8):
        assert_alike(same[sample][alike[sample] & (row != sample)])
        found = other[sample][~alike[sample]]
        # Uniform within each class of partners; over all where partners repeat.
        for label in set(labels) - {labels[sample]}:
            assert_alike(found[classes[~alike[sample]] == label])
        if labels.count(0) == 5:
            assert_alike(found)
        assert found.sum() == draws


@pytest.mark.parametrize("name", mixbench.available())
@pytest.mark.parametrize("pairing", ["same_class", "other_class"])
def test_every_method_pairs_by_classes(name: str, pairing: str) -> None:
    mix = mixbench.create(name, pairing=pairing, prob=1.0)
    assert "labels" in mix.needs
    if mix.needs - {"labels", "images"} or name == "compose":
        return  # the partner of a partner may be of the sample's own class again
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    images = torch.rand(8, 1, 16, 16, generator=seeded(2))
    plan = mix.sample(images.shape, generator=seeded(3), images=images, labels=labels)
    index, _ = plan.sources()
    itself = index == torch.arange(8).unsqueeze(1)
    assert ((labels[index] == labels.unsqueeze(1)) == (pairing == "same_class"))[~itself].all()


def test_labels_that_are_no_classes_are_refused() -> None:
    mix = mixbench.create("cutmix", pairing="same_class")
    for labels, message in (
        (
            torch.rand(4, 3),
            r"pairing: expected labels \(B,\) of classes for same_class, got \(4, 3",
        ),
        (None, r"cutmix: expected labels=, as what it draws depends on them, got None"),
    ):
        with pytest.raises(ValueError, match=message):
            mix.sample((4, 1, 8, 8), labels=labels)
