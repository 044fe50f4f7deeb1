"""Losses of methods against hand-written ones, with gradients; earlier batches; refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mixbench
from mixbench import augmentations
from mixbench.augmentations.bank import Bank
from mixbench.augmentations.methods.mixup import MixUp
from mixbench.augmentations.plans.base import Batch
from tests.support.oracles import seeded

IMAGES = torch.rand(6, 3, 4, 4, generator=seeded(1))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
CLASSES = 5


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES))


def gradients(net: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters())))


def agree(mix: augmentations.Method, net: nn.Module, expected: Tensor, **options: Any) -> None:
    """`training_loss` is `expected`, and so are its gradients."""
    by_hand = gradients(net, expected)
    loss = mixbench.training_loss(mix, net, IMAGES, LABELS, CLASSES, generator=seeded(3), **options)
    torch.testing.assert_close(loss, expected.detach(), check_dtype=False)
    torch.testing.assert_close(gradients(net, loss), by_hand)


def test_without_a_loss_of_its_own_it_is_that_of_the_mixed_batch() -> None:
    net, mix = network(), augmentations.create("cutmix")
    batch = mix(IMAGES, LABELS, CLASSES, generator=seeded(3))
    agree(mix, net, batch.targets.cross_entropy(net(batch.images)))
    expected = batch.targets.binary_cross_entropy(net(batch.images))
    agree(mix, net, expected, criterion=lambda targets, x: targets.binary_cross_entropy(x))
    assert not mix.has_loss


@pytest.mark.parametrize("wrapped", ["alone", "in a choice", "in a compose"])
def test_regmixup_by_hand(wrapped: str) -> None:
    net = network()
    spec = {"name": "regmixup", "alpha": 2.0, "eta": 0.5, "pairing": "roll", "per_sample": True}
    mix = augmentations.create(**spec)
    if wrapped == "in a choice":
        mix = augmentations.create("choice", methods=[spec, "mixup"], weights=[1, 0])
    elif wrapped == "in a compose":
        mix = augmentations.create("compose", methods=[spec, "none"])
    assert mix.has_loss
    batch = mix(IMAGES, LABELS, CLASSES, generator=seeded(3))
    keep = batch.plan.own_share().view(-1, 1, 1, 1)
    mixed = net(keep * IMAGES + (1 - keep) * IMAGES.roll(-1, 0))
    first, second = (
        F.cross_entropy(mixed, labels, reduction="none") for labels in (LABELS, LABELS.roll(-1))
    )
    share = keep.flatten()
    expected = (
        F.cross_entropy(net(IMAGES), LABELS) + 0.5 * (share * first + (1 - share) * second).mean()
    )
    agree(mix, net, expected)


def test_a_choice_has_the_loss_of_what_it_drew() -> None:
    """Nested too; a batch for which the plain method was drawn has the plain loss."""
    inner = {"name": "choice", "methods": ["regmixup", "cutmix"]}
    mix = augmentations.create("choice", methods=[inner, "mixup"])
    net, seen = network(), set()
    for seed in range(12):
        batch = mix(IMAGES, LABELS, CLASSES, generator=seeded(seed))
        expected = batch.targets.cross_entropy(net(batch.images))
        name = batch.drawn[-1].name
        seen.add(name)
        if name == "regmixup":
            expected = expected + F.cross_entropy(net(IMAGES), LABELS)
        loss = mixbench.training_loss(mix, net, IMAGES, LABELS, CLASSES, generator=seeded(seed))
        torch.testing.assert_close(loss, expected)
    assert seen == {"regmixup", "cutmix", "mixup"}
    # What shows the variety of a method draws it per sample where it can.
    assert mix.varied() == mix
    assert augmentations.create("decoupled_mixup").varied().per_sample


def test_decoupled_mixup_by_hand() -> None:
    """Image by image: a softmax for each of its two classes, without the other one."""
    net = network()
    mix = augmentations.create(
        "decoupled_mixup", methods=[{"name": "cutmix", "per_sample": True}], pairing="roll", eta=0.3
    )
    batch = mix(IMAGES, LABELS, CLASSES, generator=seeded(3))
    logits = net(batch.images)
    expected = batch.targets.cross_entropy(logits)
    pairs = 0
    for row, (first, second) in enumerate(zip(LABELS, LABELS.roll(-1), strict=True)):
        if first == second or float(batch.targets.weights[row].min()) == 0:
            continue
        pairs += 1
        for one, other in ((first, second), (second, first)):
            kept = [c for c in range(CLASSES) if c != other]
            chance = logits[row, kept].softmax(0)[kept.index(int(one))]
            expected = expected - 0.3 * chance.log() / len(IMAGES)
    assert 0 < pairs < len(IMAGES)  # the last and the first image are of one class
    agree(mix, net, expected)


@dataclass(frozen=True, kw_only=True)
class Consistent(MixUp):
    """Adds the distance to the logits of the batch before."""

    name: ClassVar[str] = "consistent"
    needs: ClassVar[frozenset[str]] = frozenset({"bank"})

    def loss(self, forward: Any, clean: Batch, mixed: Batch) -> Tensor:
        logits = forward(mixed)
        first = forward(clean)
        before = self.seen.logits
        return forward.loss(mixed.targets, logits) + (
            first.sum() * 0 if before is None else F.mse_loss(logits, before)
        )

    def remember(self, bank: Bank, *batches: Any) -> None:
        _, mixed, logits = batches
        bank.images, bank.labels, bank.logits = mixed.images, mixed.targets.dense(CLASSES), logits

    seen: ClassVar[Bank] = Bank()


def test_a_bank_holds_the_last_batch_of_the_method_that_remembers() -> None:
    bank, net = Consistent.seen, network()
    options: dict[str, Any] = {"generator": seeded(3), "bank": bank}
    mix = Consistent(pairing="roll")
    batch = mix(IMAGES, LABELS, CLASSES, seeded(3), bank=bank)
    mixbench.training_loss(mix, net, IMAGES, LABELS, CLASSES, **options)
    assert bank.images is not None and torch.equal(bank.images, batch.images)
    logits = bank.logits
    assert logits is not None and not logits.requires_grad
    torch.testing.assert_close(logits, net(batch.images).detach())
    loss = mixbench.training_loss(mix, net, IMAGES, LABELS, CLASSES, **options)
    batch = mix(IMAGES, LABELS, CLASSES, _second(), bank=bank)
    now = net(batch.images)
    torch.testing.assert_close(loss, batch.targets.cross_entropy(now) + F.mse_loss(now, logits))
    # A batch of another method in between leaves nothing.
    chosen = augmentations.create("choice", methods=[mix, "cutout"], weights=[0, 1])
    mixbench.training_loss(chosen, net, IMAGES, LABELS, CLASSES, **options)
    assert bank.state() == {}


def _second() -> torch.Generator:
    """A generator that has drawn one batch of `Consistent`."""
    generator = seeded(3)
    Consistent(pairing="roll").sample(IMAGES.shape, generator=generator, bank=Bank())
    return generator


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: augmentations.create("choice", methods=["regmixup", "mixup"], per_sample=True),
            r"choice.per_sample: expected false, as regmixup has a loss of its own",
        ),
        (
            lambda: augmentations.create("compose", methods=["regmixup", "regmixup"]),
            "compose.methods: expected at most one with a loss of its own",
        ),
        (
            lambda: augmentations.create("compose", methods=[Consistent(), "mixup"]),
            "compose.methods: .* as consistent needs earlier batches",
        ),
        (
            lambda: augmentations.create("decoupled_mixup", methods=["mixup", "cutmix"]),
            "decoupled_mixup.methods: got 2, expected one; several go into a choice",
        ),
        (
            lambda: augmentations.create("decoupled_mixup", methods=["regmixup"]),
            "decoupled_mixup.methods: expected one with the usual loss, as regmixup has a loss",
        ),
        (
            lambda: augmentations.SoftTargets(augmentations.create("regmixup"), 5),
            "mix: regmixup has a loss of its own, .* use mixbench.training_loss",
        ),
        (
            lambda: mixbench.training_loss(Consistent(), network(), IMAGES, LABELS, CLASSES),
            "consistent: expected bank=",
        ),
    ],
)
def test_what_can_not_be_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
