"""Check the source of random numbers, and that the host never waits for the device."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.contract.case import Case, pixels_of
from mixbench.augmentations.contract.promise import Broken, expect, expect_equal, promise


def _global_states() -> dict[str, Any]:
    states: dict[str, Any] = {
        "torch": torch.get_rng_state().tolist(),
        "random": random.getstate(),
    }
    if "numpy" in sys.modules:
        kind, keys, *rest = sys.modules["numpy"].random.get_state()
        states["numpy"] = (kind, keys.tolist(), *rest)
    if torch.cuda.is_available():
        states["torch.cuda"] = torch.cuda.get_rng_state().tolist()
    return states


@promise("with a generator, no global random state is read or written")
def generator_only(case: Case) -> None:
    images, labels = case.images(), case.labels()
    mix = case.method()
    given = case.given(mix, images)
    before = _global_states()
    first = mix(images, labels, 10, generator=case.generator(), **given)
    after = _global_states()
    used = [name for name, state in before.items() if after[name] != state]
    expect(not used, f"the global random state of {' and '.join(used)} was used")
    second = mix(images, labels, 10, generator=case.generator(), **given)
    for what, one, other in (
        ("images", first.images, second.images),
        ("label weights", first.targets.weights, second.targets.weights),
        ("labels", first.targets.labels, second.targets.labels),
    ):
        expect_equal(other, one, f"the same seed gave other {what}")


@promise("without a generator, torch's default one of the device is used", once=True)
def default_generator(case: Case) -> None:
    images, labels = case.images(), case.labels()
    mix = case.method(prob=0.9)
    given = case.given(mix, images)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        by_default = mix(images, labels, 10, **given)
    explicit = mix(images, labels, 10, generator=case.generator(11), **given)
    sentence = "torch.manual_seed(11) and a generator seeded with 11 differ"
    expect_equal(by_default.images, explicit.images, sentence)
    expect_equal(by_default.targets.weights, explicit.targets.weights, sentence)


@promise("another seed, and the next call, decide anew", once=True)
def seeds_differ(case: Case) -> None:
    images = case.images()
    if _never_mixes(case):
        return
    stream = case.generator(3)
    mix = case.method()
    given = {"images": images, "labels": case.labels(), **case.given(mix, images)}

    def mixed(generator: torch.Generator) -> tuple[float, ...]:
        plan = mix.sample(images.shape, device=case.device, generator=generator, **given)
        return tuple(pixels_of(plan, images).flatten().tolist())

    # Two draws of 12 may agree (an empty box); not most of them.
    for what, results in (
        ("seeds", {mixed(case.generator(seed)) for seed in range(12)}),
        ("calls with one generator", {mixed(stream) for _ in range(12)}),
    ):
        expect(len(results) >= 6, f"12 {what} gave only {len(results)} different batches")


def _never_mixes(case: Case) -> bool:
    """Tell whether the method changes nothing, such as `none`."""
    images = case.images()
    plans = (case.sample(images, seed=seed) for seed in range(40))
    return all(torch.equal(pixels_of(plan, images), images) for plan in plans)


@promise("neither sampling nor mixing makes the host wait for the device")
def no_waiting(case: Case) -> None:
    """Run on the meta device, which has no values, so that reading one on the host raises."""
    shape = (case.batch, case.channels, *case.size)
    images = torch.empty(shape, device="meta", dtype=case.dtype)
    labels = torch.empty(case.batch, dtype=torch.int64, device="meta")
    mix = case.method(prob=0.5)
    with _nothing_read_back("sample"):
        plan = mix.sample(
            shape, device="meta", images=images, labels=labels, **case.given(mix, images)
        )
    steps: dict[str, Callable[[], Tensor]] = {
        "mix_images": lambda: plan.mix_images(images),
        "mix_labels": lambda: plan.mix_labels(labels, 10).weights,
        "mix_masks": lambda: plan.mix_masks(torch.empty(shape, device="meta")),
        "mix_features": lambda: plan.mix_features(torch.empty(case.batch, 5, 4, 6, device="meta")),
    }
    for name, step in steps.items():
        with _nothing_read_back(name):
            result = step()
        expect(result.device.type == "meta", f"`{name}` gave a tensor on {result.device}")


@contextmanager
def _nothing_read_back(step: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if "meta" not in str(error):
            raise
        text = f"`{step}` reads a value back from the device: {_first(error)}"
        raise Broken(text) from error


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


@promise("on a GPU, no operation synchronises", once=True, device="cuda")
def no_synchronisation(case: Case) -> None:
    images, labels, generator = case.images(), case.labels(), case.generator()
    mix = case.method(prob=0.5)
    given = case.given(mix, images)
    mix(images, labels, 10, generator=generator, **given)  # creates the plans of the FFT
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = mix(images, labels, 10, generator=generator, **given)
        pixels_of(batch.plan, images)
    except RuntimeError as error:
        raise Broken(f"the host waits for the GPU: {_first(error)}") from error
    finally:
        torch.cuda.set_sync_debug_mode("default")
