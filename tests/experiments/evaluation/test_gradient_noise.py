"""Gradient noise: planted components are found, and a step of a known method has its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.gradient_noise import GradientNoiseSettings
from mixbench.experiments.evaluation.gradient_noise import measure as noise
from mixbench.experiments.evaluation.gradient_noise.components import components
from tests.support import planted


def of(subject: Subject, **changes: object) -> Subject:
    """The same network in a run with other settings."""
    config = subject.config
    training = config.training.model_copy(
        update={"batch_size": 32, **{k: v for k, v in changes.items() if k != "augmentation"}}
    )
    augmentation = changes.get("augmentation", {"name": "none"})
    changed = config.model_copy(update={"training": training, "augmentation": augmentation})
    return Subject(subject.network, subject.dataset, changed, subject.device)


def test_planted_components_are_found() -> None:
    random = np.random.default_rng(0)
    batches, draws, size = 60, 5, 400
    common = random.normal(size=size) * 1.0
    vectors = (
        common
        + random.normal(size=(batches, 1, size)) * 0.5
        + random.normal(size=(batches, draws, size)) * 2.0
    )
    found = components([[torch.from_numpy(one) for one in batch] for batch in vectors])
    assert found.total == pytest.approx(np.square(vectors).sum(axis=2).mean())
    assert found.mix == pytest.approx(vectors.var(axis=1, ddof=1).sum(axis=1).mean())
    # Within a few standard errors of what was planted.
    assert found.mix == pytest.approx(4.0 * size, rel=0.05)
    assert found.batch == pytest.approx(0.25 * size, rel=0.3)
    assert found.signal == pytest.approx(np.square(common).sum(), rel=0.1)


def test_a_step_as_autograd_has_it(digits_subject: Subject) -> None:
    plain = of(digits_subject, label_smoothing=0.1)
    settings = GradientNoiseSettings(batches=2, draws=2)
    before = torch.get_rng_state()
    with planted.untouched(digits_subject.network):
        found = noise.measure(plain, settings).metrics
    assert torch.equal(torch.get_rng_state(), before)
    # Without mixing all draws are the same, to the last bit.
    assert found["gradient_noise/mix"] == 0
    shares = [found[f"gradient_noise/{name}"] or 0.0 for name in ("mix", "batch", "signal")]
    assert sum(shares) == pytest.approx(1)


def test_mixing_makes_noise_the_more_the_more_it_mixes(digits_subject: Subject) -> None:
    settings = GradientNoiseSettings(batches=3, draws=4)
    found = []
    for strength in (0.02, 1.0):
        mixup = {"name": "mixup", "alpha": strength, "prob": 1.0, "pairing": "permute"}
        one = noise.measure(of(digits_subject, augmentation=mixup), settings)
        again = noise.measure(of(digits_subject, augmentation=mixup), settings)
        assert one.metrics == again.metrics
        share, norm = (one.metrics[f"gradient_noise/{name}"] or 0.0 for name in ("mix", "norm"))
        found.append(share * norm**2)
    assert 0 < found[0] < found[1]


def test_what_has_no_such_step(digits_subject: Subject) -> None:
    settings = GradientNoiseSettings()
    with pytest.raises(Impossible, match="two batches of 4000"):
        noise.measure(of(digits_subject, batch_size=4000), settings)


@pytest.mark.parametrize("name", ["recursivemix", "augmix"])
def test_methods_that_need_more_than_the_images_are_measured(
    digits_subject: Subject, name: str
) -> None:
    settings = GradientNoiseSettings(batches=2, draws=2)
    found = noise.measure(of(digits_subject, augmentation={"name": name}), settings).metrics
    assert (found["gradient_noise/mix"] or 0.0) > 0


def test_recursivemix_finds_the_batch_before_in_its_bank(
    digits_subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor | None] = []
    plain = noise.training_loss

    def spy(*arguments: object, **named: object) -> torch.Tensor:
        seen.append(named["bank"].images)  # type: ignore[attr-defined]
        seen.append(arguments[2])  # type: ignore[arg-type]
        return plain(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(noise, "training_loss", spy)
    settings = GradientNoiseSettings(batches=2, draws=2)
    noise.measure(of(digits_subject, augmentation={"name": "recursivemix"}), settings)
    banks, batches = seen[::2], seen[1::2]
    # For each batch: one step that leaves a bank behind, then two draws that find the same one.
    assert banks[0] is None and banks[1] is banks[2] and banks[1] is not None
    assert len(banks) == 6 and not torch.equal(batches[0], batches[1])  # type: ignore[arg-type]
    assert torch.equal(batches[3], batches[1])  # type: ignore[arg-type]
    assert banks[4] is banks[5] and not torch.equal(banks[4], banks[1])  # type: ignore[arg-type]
