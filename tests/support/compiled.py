"""`torch.compile` without graph breaks: the plan, the mixes, the loss, and a whole call.

The backends used here need no C++ compiler; a graph break is an error with every backend. Run by
`test_compile.py`, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.methods.augmix import divergence
from mixbench.augmentations.pixels import _capable
from mixbench.augmentations.plans.base import Plan
from tests.support.given import all_needed
from tests.support.oracles import DEVICES, seeded

# They draw on the host which code runs, and a graph has one code. See `Draws.choose`.
DRAWN_BY_THE_HOST = {
    ("choice", False),
    *((name, per_sample) for name in ("manifold_mixup", "patchup") for per_sample in (False, True)),
}
METHODS = [
    (name, per_sample)
    for name in augmentations.available()
    # Another network does not go into the graph.
    if not augmentations.create(name).needs - {"images", "labels"}
    for per_sample in (False, True)
]


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batch_of(device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """images (4, 3, 8, 8), labels (4,), logits (4, 5)."""
    random = seeded(1)
    made = (
        torch.randn((4, 3, 8, 8), generator=random),
        torch.tensor([0, 3, 4, 3]),
        torch.randn((4, 5), generator=random),
    )
    images, labels, logits = (tensor.to(device) for tensor in made)
    return images, labels, logits


def compiled(function: Any, backend: str = "eager") -> Any:
    """Compiled into one graph, or an error."""
    return torch.compile(function, fullgraph=True, backend=backend)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "per_sample"), METHODS)
def test_a_whole_step_is_one_graph(name: str, per_sample: bool, device: str) -> None:
    mix = augmentations.create(name, per_sample=per_sample)
    images, labels, logits = batch_of(device)

    def step(images: Tensor, labels: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        batch = mix(images, labels, 5)
        loss = batch.targets.cross_entropy(logits, label_smoothing=0.1)
        return batch.images, batch.targets.labels, batch.targets.weights, loss

    if (name, per_sample) in DRAWN_BY_THE_HOST:
        with pytest.raises(torch._dynamo.exc.TorchDynamoException):
            compiled(step)(images, labels, logits)
        return
    # Same draws, same pixels: compiling must not change the order of the draws.
    torch.manual_seed(3)
    expected = step(images, labels, logits)
    torch.manual_seed(3)
    found = compiled(step)(images, labels, logits)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def drawn(name: str, device: str, random: torch.Generator) -> Plan:
    """A plan of the method for the batch."""
    mix, (images, _, _) = augmentations.create(name), batch_of(device)
    given = all_needed(mix, images)
    if "bank" in given:
        given["bank"].labels %= 5
    return mix.sample(images.shape, device=device, generator=random, **given)


def methods_of_each_graph() -> list[str]:
    """The first method of those whose plans have the same fields, of the same shapes."""
    first: dict[Any, str] = {}
    for name in augmentations.available():
        plan = drawn(name, "cpu", seeded(0))
        first.setdefault(structure(plan), name)
    return list(first.values())


def structure(value: Any) -> Any:
    """What the compiler takes for constant of a plan."""
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.stride()
    if isinstance(value, Plan):
        fields = sorted(vars(value).items())
        return type(value), *((name, structure(field)) for name, field in fields)
    if isinstance(value, list | tuple):
        return tuple(structure(one) for one in value)
    return repr(value)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", methods_of_each_graph())
def test_a_plan_drawn_outside_is_applied_inside(name: str, device: str) -> None:
    # The way for an explicit generator, which torch takes into no graph.
    images, labels, logits = batch_of(device)
    features = images[:, :, ::2, ::2].contiguous()

    def step(plan: Plan, images: Tensor, features: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        targets = plan.mix_labels(labels, 5)
        mixed = plan.mix_images(images), plan.mix_features(features), plan.mix_masks(images)
        return *mixed, targets.dense(5), targets.cross_entropy(logits)

    # Where gradients and views are taken apart too: one blend, one paste.
    once = compiled(step, "aot_eager" if name in ("fmix", "cutmix") else "eager")
    random = torch.Generator(device)
    for seed in range(2):
        plan = drawn(name, device, random.manual_seed(seed))
        expected = step(plan, images, features, labels)
        for one, other in zip(once(plan, images, features, labels), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_one_graph_serves_every_plan_of_a_method() -> None:
    images, _, _ = batch_of()
    counter = torch._dynamo.testing.CompileCounter()
    once = torch.compile(
        lambda plan, images: plan.mix_images(images), fullgraph=True, backend=counter
    )
    mix = augmentations.create("cutmix", per_sample=True)
    random = seeded(0)
    for _ in range(4):
        plan = mix.sample(images.shape, generator=random)
        assert torch.equal(once(plan, images), plan.mix_images(images))
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_gradients_go_through_a_graph(name: str) -> None:
    images, labels, _ = batch_of()
    plan = augmentations.create(name, per_sample=True, prob=1).sample(
        images.shape, generator=seeded(5)
    )
    weights = torch.randn((192, 5), generator=seeded(6))

    def loss(images: Tensor) -> Tensor:
        logits = plan.mix_images(images).flatten(1) @ weights
        return plan.mix_labels(labels, 5).cross_entropy(logits)

    grads = []
    for function in (loss, compiled(loss, "aot_eager")):
        leaf = images.clone().requires_grad_()
        (grad,) = torch.autograd.grad(function(leaf), leaf)
        grads.append(grad)
    torch.testing.assert_close(grads[1], grads[0])
    assert grads[0].abs().sum() > 0


def test_the_consistency_of_views_is_one_graph() -> None:
    logits = [torch.randn((4, 5), generator=seeded(seed)) for seed in range(3)]
    torch.testing.assert_close(compiled(divergence)(logits), divergence(logits))


def test_which_code_mixes_is_a_constant_to_the_compiler() -> None:
    """As torch's decorator has it, which can't be used: it imports the compiler."""

    def plain() -> None: ...

    assert vars(torch.compiler.assume_constant_result(plain)).items() <= vars(_capable).items()
