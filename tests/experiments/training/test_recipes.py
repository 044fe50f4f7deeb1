"""Optimisers, repeated augmentation and SWA against their definitions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixbench.experiments.config.training import TrainingConfig
from mixbench.experiments.data.split import ArraySplit, Sampling
from mixbench.experiments.training.optimiser import optimiser_for
from mixbench.experiments.training.sharpness import Sharpness
from mixbench.experiments.training.swa import WeightAverage
from mixbench.experiments.transfer.freeze import Freezing
from mixbench.experiments.transfer.layers import Layers

CPU = torch.device("cpu")


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_lamb_takes_steps_as_long_as_its_paper_says() -> None:
    """You et al. 2020 (arXiv:1904.00962), algorithm 2, with gradients clipped to norm 1."""
    weights = [drawn(3, 4), drawn(5)]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    training = TrainingConfig(optimiser="lamb", learning_rate=0.1, weight_decay=0.02)
    optimiser = optimiser_for([{"params": parameters}], training)
    means = [torch.zeros_like(weight) for weight in weights]
    squares = [torch.zeros_like(weight) for weight in weights]
    for step in (1, 2, 3):
        gradients = [3 * step * drawn(3, 4).cos(), drawn(5) ** 2 - step]
        norm = torch.cat([each.flatten() for each in gradients]).norm()
        for number, gradient in enumerate(gradients):
            parameters[number].grad = gradient.clone()
            clipped = gradient / norm.clamp(min=1)
            means[number] = 0.9 * means[number] + 0.1 * clipped
            squares[number] = 0.999 * squares[number] + 0.001 * clipped**2
            root = (squares[number] / (1 - 0.999**step)).sqrt()
            update = means[number] / (1 - 0.9**step) / (root + 1e-6) + 0.02 * weights[number]
            ratio = weights[number].norm() / update.norm()
            weights[number] = weights[number] - 0.1 * ratio * update
        optimiser.step()
    for parameter, weight in zip(parameters, weights, strict=True):
        torch.testing.assert_close(parameter.detach(), weight)


class Noisy(nn.Module):
    """Batch normalisation, dropout and a part that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.drop(self.norm(self.first(images)).relu()))


def test_sam_has_the_gradient_of_the_worst_weights_nearby() -> None:
    torch.manual_seed(0)
    network = Noisy().double()
    network.first.bias.requires_grad_(False)
    images, labels = drawn(8, 6), torch.arange(8) % 3
    before = {name: value.clone() for name, value in network.state_dict().items()}
    names, trained = zip(
        *((n, p) for n, p in network.named_parameters() if p.requires_grad), strict=True
    )
    random_state = torch.get_rng_state()

    def loss_at(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        torch.set_rng_state(random_state)
        logits = torch.func.functional_call(network, {**buffers, **weights}, (images,))
        return nn.functional.cross_entropy(logits, labels)

    def gradient(moved: list[Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        weights = [value.detach().requires_grad_() for value in moved]
        loss = loss_at(dict(zip(names, weights, strict=True)), buffers)
        return loss.detach(), list(torch.autograd.grad(loss, weights))

    buffers = {name: value.clone() for name, value in network.named_buffers()}
    first, slopes = gradient(list(trained), buffers)
    length = torch.cat([slope.flatten() for slope in slopes]).norm()
    worst = [p + 0.3 * slope / length for p, slope in zip(trained, slopes, strict=True)]
    above, expected = gradient(worst, {name: value.clone() for name, value in buffers.items()})
    torch.set_rng_state(random_state)
    passes = 0

    def backward() -> Tensor:
        nonlocal passes
        passes += 1
        loss = nn.functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        return loss.detach()

    training = TrainingConfig(optimiser="sam", sam_rho=0.3)
    sharpness = Sharpness.of(network, training, CPU)
    assert sharpness is not None and Sharpness.of(network, TrainingConfig(), CPU) is None
    torch.testing.assert_close(sharpness.gradients(backward), first)
    assert above > first and passes == 2
    for parameter, slope in zip(trained, expected, strict=True):
        torch.testing.assert_close(parameter.grad, slope)
    # The weights are the same to the last bit, the statistics and draws those of one pass.
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name, _ in network.named_parameters())
    assert int(after["norm.num_batches_tracked"]) == 1
    torch.testing.assert_close(after["norm.running_mean"], buffers["norm.running_mean"])
    here = torch.rand(3)
    torch.set_rng_state(random_state)
    network(images)
    assert torch.equal(torch.rand(3), here)


def test_a_repeated_image_comes_in_its_batch_with_other_crops() -> None:
    size = 22
    pixels = torch.arange(12 * 12).view(1, 1, 12, 12).repeat(size, 1, 1, 1).to(torch.uint8)
    split = ArraySplit(pixels, torch.arange(size))

    def epoch(**more: object) -> list[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        return list(split.epoch(8, generator, sampling=Sampling(repeats=4), **more))  # type: ignore[arg-type]

    batches = epoch(crops=(0.2, 0.5))
    first = torch.randperm(size, generator=torch.Generator().manual_seed(0))[:6].tolist()
    assert [labels.tolist() for _, labels in batches] == [
        first[:2] * 4,
        first[2:4] * 4,
        (first[4:] * 4)[:6],
    ]
    assert len(batches) == split.steps(8)
    images, _ = batches[0]
    assert len(images.flatten(1).unique(dim=0)) == 8
    # The ranks share a batch, and a part that goes on begins where it was.
    parts = [epoch(crops=(0.2, 0.5), part=(rank, 2), start=1) for rank in range(2)]
    for (whole, labels), *shares in zip(batches[1:], *parts, strict=True):
        assert torch.equal(torch.cat([share[0] for share in shares]), whole)
        assert torch.equal(torch.cat([share[1] for share in shares]), labels)


def test_swa_is_the_mean_of_the_last_epochs_with_statistics_of_its_own() -> None:
    torch.manual_seed(0)
    network = Noisy()
    average = WeightAverage(network, start=0.5, epochs=4)
    seen = []
    for epoch in (1, 2, 3, 4):
        for parameter in network.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        network(torch.randn(4, 6))
        average.observe(network, epoch)
        seen.append({name: value.clone() for name, value in network.named_parameters()})
    batches = [torch.randn(6, 6), torch.randn(6, 6), torch.randn(1, 6)]
    before = network.state_dict()["norm.running_mean"].clone()
    average.recompute_statistics(Freezing(network, Layers.of(network, "noisy"), None), batches)
    state = average.state()["swa"]
    for name, value in seen[0].items():
        mean = torch.stack([each[name] for each in seen[1:]]).mean(dim=0)
        torch.testing.assert_close(state[name], mean)
        assert not torch.allclose(mean, value)
    hidden = torch.cat(batches[:2]) @ state["first.weight"].T + state["first.bias"]
    torch.testing.assert_close(state["norm.running_mean"], hidden.mean(dim=0))
    spreads = torch.stack([each.var(dim=0) for each in hidden.split(6)])
    torch.testing.assert_close(state["norm.running_var"], spreads.mean(dim=0))
    assert torch.equal(network.state_dict()["norm.running_mean"], before) and network.training
    again = WeightAverage(network, start=0.5, epochs=4)
    again.restore(average.state())
    again.observe(network, 4)
    average.observe(network, 4)
    assert all(torch.equal(v, again.state()["swa"][k]) for k, v in average.state()["swa"].items())
