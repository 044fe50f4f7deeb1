"""Check the loss of a method that has one of its own, and what it remembers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixbench.augmentations.bank import Bank
from mixbench.augmentations.contract.case import Case
from mixbench.augmentations.contract.promise import expect, expect_equal, promise
from mixbench.augmentations.forward import Forward, clean_batch
from mixbench.augmentations.plans.base import Batch
from mixbench.augmentations.targets import Targets

CLASSES = 10


@promise(
    "a loss of its own is a finite number with gradients for the network, the same when called "
    "again, and changes neither batch",
    once=True,
)
def loss_is_a_loss(case: Case) -> None:
    if not case.method().has_loss:
        return
    network, clean, mixed = _set_up(case)
    before = [tensor.clone() for tensor in _tensors(clean, mixed)]
    states = torch.get_rng_state()
    method = case.method()
    losses = []
    for _ in range(2):
        forward = _Forward(lambda batch: network(batch.images), Targets.cross_entropy)
        losses.append(method.loss(forward, clean, mixed))
    loss, again = losses
    expect(loss.dim() == 0, f"the loss has the shape {tuple(loss.shape)}, expected a number")
    expect(loss.dtype == torch.float32, f"the loss is {loss.dtype}, expected torch.float32")
    expect(bool(loss.isfinite()), f"the loss is {float(loss.detach())}")
    expect_equal(again.detach(), loss.detach(), "called again with the same batches, it differs")
    expect(torch.equal(torch.get_rng_state(), states), "it draws random numbers")
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    reached = [one for one in gradients if one is not None]
    expect(bool(reached), "no gradient reaches the network")
    expect(all(bool(one.isfinite().all()) for one in reached), "a gradient is not finite")
    for tensor, copy in zip(_tensors(clean, mixed), before, strict=True):
        expect_equal(tensor, copy, "the loss changes the batches it is given")


@promise("what is remembered of a batch is detached, and serves the next one", once=True)
def bank_is_detached(case: Case) -> None:
    if "bank" not in case.method().needs:
        return
    network, clean, mixed = _set_up(case, bank=Bank())
    method, bank = case.method(), Bank()
    forward = Forward(lambda batch: network(batch.images), Targets.cross_entropy)
    method.loss(forward, clean, mixed)
    method.remember(bank, clean, mixed, forward.seen(mixed))
    for name, value in bank.state().items():
        expect(not value.requires_grad, f"bank.{name} keeps the graph of its batch")
    images, labels = case.images().float(), case.labels()
    mix = method(images, labels, CLASSES, generator=case.generator(1), bank=bank)
    expect(bool(mix.images.isfinite().all()), "images mixed with a remembered batch: not finite")


class _Forward(Forward):
    """With an attention that is always the same, in place of that of a transformer."""

    def watch(self, batch: Batch, what: str) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        generator = torch.Generator().manual_seed(2)
        shape = (len(batch.images), 4, 4)
        seen = torch.rand(shape, generator=generator, dtype=torch.float32).to(batch.images.device)
        return self(batch), seen


def _set_up(case: Case, bank: Bank | None = None) -> tuple[nn.Module, Batch, Batch]:
    images, labels = case.images().float(), case.labels()
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), CLASSES))
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    method = case.method()
    given = {**case.given(method, images), **({} if bank is None else {"bank": bank})}
    mixed = method(images, labels, CLASSES, generator=case.generator(), **given)
    return network.to(case.device), clean_batch(images, labels, CLASSES), mixed


def _tensors(clean: Batch, mixed: Batch) -> list[Tensor]:
    batches = (clean, mixed)
    return [
        tensor
        for batch in batches
        for tensor in (batch.images, batch.targets.labels, batch.targets.weights)
    ]
