"""Methods with a loss of their own in the training loop: by hand, over ranks, continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mixbench import augmentations
from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.load import load
from mixbench.experiments.models.build import build
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.signals import Stopped
from mixbench.experiments.store import checkpoint
from mixbench.experiments.training import loop
from mixbench.experiments.training.random_streams import stream_seed
from mixbench.experiments.training.schedules import learning_rate
from tests.support.ranking import on_ranks

CPU = torch.device("cpu")


def configured(augmentation: dict[str, Any], **training_section: Any) -> RunConfig:
    return resolve.parse(
        {
            "dataset": {"name": "digits", "train_size": 64, "image_size": 8},
            "model": {"name": "small_cnn", "width": 4},
            "augmentation": augmentation,
            "training": {
                "epochs": 2,
                "batch_size": 16,
                "learning_rate": 0.1,
                "crop_padding": 0,
                "flip": False,
                **training_section,
            },
        }
    )


def trained(made: RunConfig, folder: Path, ranks: Ranks = ALONE) -> dict[str, Tensor]:
    folder.mkdir(exist_ok=True)
    network = build(made.model, channels=1, classes=10, size=8, seed=0)
    loop.train(network, load(made.dataset), made, CPU, folder, lambda *_, **__: None, ranks=ranks)
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_a_step_with_regmixup_by_hand(tmp_path: Path) -> None:
    made = configured(
        {"name": "regmixup", "eta": 0.5, "pairing": "roll"},
        epochs=1,
        batch_size=500,
        weight_decay=0,
        label_smoothing=0.1,
    )
    after = trained(made, tmp_path)
    dataset = load(made.dataset)
    network = build(made.model, channels=1, classes=10, size=8, seed=0)
    order = torch.Generator().manual_seed(stream_seed(0, "order"))
    ((raw, labels),) = dataset.train.epoch(500, order)
    images = normalise(raw, dataset.mean, dataset.std)
    mixing = torch.Generator().manual_seed(stream_seed(0, "mixing"))
    plan: Any = augmentations.create(**made.augmentation).sample(images.shape, generator=mixing)
    keep = float(plan.keep[0])
    clean, mixed = network(images), network(keep * images + (1 - keep) * images.roll(-1, 0))
    first, second, own = (
        cross_entropy(logits, given, label_smoothing=0.1)
        for logits, given in ((mixed, labels), (mixed, labels.roll(-1)), (clean, labels))
    )
    loss = own + 0.5 * (keep * first + (1 - keep) * second)
    loss.backward()
    rate = learning_rate(0, 1, made.training)
    for name, value in network.named_parameters():
        assert value.grad is not None
        expected = value.detach() - rate * 1.9 * value.grad
        torch.testing.assert_close(after[name], expected, atol=1e-5, rtol=0, msg=name)


def on_rank(group: Ranks, augmentation: dict[str, Any], folder: str) -> dict[str, Tensor]:
    return trained(configured(augmentation, epochs=1), Path(folder) / str(group.rank), group)


def stopped_and_continued(
    made: RunConfig, folder: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The checkpoint of a training that ends in the middle of an epoch, and what it came to."""
    asked = iter(range(100))
    network = build(made.model, channels=1, classes=10, size=8, seed=0)
    folder.mkdir()
    with pytest.raises(Stopped):
        loop.train(
            network,
            load(made.dataset),
            made,
            CPU,
            folder,
            lambda *_, **__: None,
            stopping=lambda: next(asked) >= 2,
        )
    return next(checkpoint.load(folder)), trained(made, folder)


def test_going_on_with_several_views_is_exact(tmp_path: Path) -> None:
    made = configured({"name": "augmix"})
    _, continued = stopped_and_continued(made, tmp_path / "parts")
    whole = trained(made, tmp_path / "whole")
    assert all(torch.equal(continued[key], whole[key]) for key in whole)
    others = trained(configured({"name": "augmix", "consistency": 1.0}), tmp_path / "others")
    assert not torch.equal(others["classifier.weight"], whole["classifier.weight"])


def test_going_on_with_earlier_batches_is_exact(tmp_path: Path) -> None:
    """The bank is in the checkpoint."""
    made = configured({"name": "recursivemix", "alpha": 0.9, "per_sample": True})
    whole = trained(made, tmp_path / "whole")
    stored, continued = stopped_and_continued(made, tmp_path / "parts")
    assert set(stored["ranks"][0]["bank"]) == {"images", "labels", "logits"}
    assert all(torch.equal(continued[key], whole[key]) for key in whole)
    plain = trained(configured({"name": "none"}), tmp_path / "plain")
    assert not torch.equal(plain["classifier.weight"], whole["classifier.weight"])
    stored = next(checkpoint.load(tmp_path / "plain"))
    assert "bank" not in stored["ranks"][0]


@pytest.mark.parametrize("name", ["regmixup", "recursivemix", "augmix"])
def test_ranks_train_with_several_passes(name: str, tmp_path: Path) -> None:
    """Batch normalisation included: what it gathers is not exchanged between two passes."""
    first, second = on_ranks(2, tmp_path, on_rank, {"name": name}, str(tmp_path))
    assert all(torch.equal(first[key], second[key]) for key in first if "running" not in key)


def test_transmix_trains_a_vit_of_timm(tmp_path: Path) -> None:
    """The same boxes and images; labels by attention or by area alone give other weights."""
    found = []
    for share in (0.0, 1.0, 1.0):
        made = resolve.parse(
            {
                "dataset": {"name": "digits", "train_size": 32, "image_size": 32},
                "model": {"name": "timm/vit_tiny_patch16_224"},
                "augmentation": {"name": "transmix", "share": share},
                "training": {"epochs": 1, "batch_size": 14, "learning_rate": 0.01},
            }
        )
        network = build(made.model, channels=1, classes=10, size=32, seed=0)
        folder = tmp_path / str(len(found))
        folder.mkdir()
        loop.train(network, load(made.dataset), made, CPU, folder, lambda *_, **__: None)
        found.append(network.state_dict()["head.weight"].clone())
    by_area, by_attention, again = found
    assert torch.equal(by_attention, again) and not torch.equal(by_attention, by_area)
