"""APGD, squares and transfer: known networks, foolbox, and a planted masked gradient."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import foolbox
import pytest
import torch
from torch import Tensor, nn

from mixbench.experiments import cli
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.attack import AttackSettings, apgd, ball, squares, steps
from mixbench.experiments.evaluation.attack import measure as attack
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.restore import subject_of
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import planted


def asked(**settings: Any) -> AttackSettings:
    return AttackSettings.model_validate(settings)


def test_a_linear_network_falls_to_each_where_its_margin_is_below_epsilon() -> None:
    # As for PGD: those of x = k/255 fall whose x - 1/2 is below epsilon.
    shades = torch.tensor([128, 130, 134, 140, 150, 200], dtype=torch.uint8)
    images = shades.view(-1, 1, 1, 1).expand(-1, 1, 3, 3).contiguous()
    network = planted.Linear(
        torch.stack([torch.zeros(9), torch.full((9,), 2.0)]), torch.tensor([0.0, -9.0])
    )
    subject = planted.subject(network, images, torch.ones(6).long())
    settings = asked(
        epsilons=["2/255", "8/255"],
        also=["squares", "apgd"],
        queries=100,
        apgd_steps=10,
        curve=True,
    )
    with planted.untouched(network):
        found = attack.measure(subject, settings)
    for name in ("pgd", "apgd", "squares", "worst"):
        assert found.metrics[f"attack/{name}/2-255"] == 5 / 6, name
        assert found.metrics[f"attack/{name}/8-255"] == 3 / 6, name
    assert found.metrics["attack/masked/8-255"] == 0.0 and found.curves["masked"] == []
    # From there on down to guessing, one in ten: 1/6 at 64/255, 0 at 128/255.
    assert found.metrics["attack/curve/apgd/half"] == pytest.approx(8 / 255)
    assert found.metrics["attack/curve/apgd/chance"] == pytest.approx((64 + 64 * 0.4) / 255)
    assert found.curves["curve"]["epsilon"][-1] == 128 / 255


def test_against_foolbox(digits_subject: Subject) -> None:
    network, test = digits_subject.network, digits_subject.split("test")
    pixels, labels = next(iter(digits_subject.pixels(test, 64)))
    mean, std = float(digits_subject.dataset.mean), float(digits_subject.dataset.std)
    oracle = foolbox.PyTorchModel(
        network, bounds=(0, 1), preprocessing={"mean": mean, "std": std}, device="cpu"
    )

    def predict(images: Tensor) -> Tensor:
        logits: Tensor = network(digits_subject.normalised(images))
        return logits

    epsilon = 0.1
    draws = ImageRandom(torch.arange(64), 0, "attack")
    around = ball.Ball(pixels, epsilon)
    with input_gradients(network):
        _, once, _ = foolbox.attacks.FGSM()(oracle, pixels, labels, epsilons=epsilon)
        _, _, misled = foolbox.attacks.LinfPGD(steps=20)(oracle, pixels, labels, epsilons=epsilon)
        ours = steps.fgsm(predict, pixels, labels, epsilon)
        for loss in ("margin", "log_odds"):
            images, right = apgd.apgd(
                predict, labels, around, around.random(draws), steps=20, loss_name=loss
            )
            assert int(right.sum()) <= int((~misled).sum()) < 64 * 0.9, loss
            assert torch.equal(predict(images).argmax(1) == labels, right)
            pairs = zip(images[:3].flatten().tolist(), pixels[:3].flatten().tolist(), strict=True)
            assert max(abs(Fraction(a) - Fraction(b)) for a, b in pairs) <= Fraction(epsilon)
        images, right = squares.squares(predict, pixels, labels, epsilon, queries=60, draws=draws)
    # Where a gradient is 0 in single precision, foolbox does not move.
    assert ((ours - once).abs() > 1e-5).float().mean() < 0.02
    assert torch.equal(predict(images).argmax(1) == labels, right)
    assert torch.equal(around.clip(images), images)
    assert int((~misled).sum()) <= int(right.sum()) < 60


class Masked(nn.Module):
    """Gives the outputs of a network, and a gradient that leads nowhere."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.detach())
        return logits + 1e-6 * images.flatten(1).mean(dim=1, keepdim=True)


def test_a_planted_masked_gradient_is_found(sweep: SweepFolder) -> None:
    attacked, source = sweep.plan()
    settings = asked(
        epsilons=[0.2], steps=3, images=64, also="squares", queries=60, source=source.run_key[:8]
    )
    found = {}
    for name in ("plain", "masked"):
        subject = subject_of(attacked, torch.device("cpu"), lambda: None)
        if name == "masked":
            subject.network = Masked(subject.network).eval()
        found[name] = attack.measure(subject, settings)
    plain, masked = (one.metrics for one in found.values())
    assert plain["attack/pgd/51-255"] < plain["attack/squares/51-255"]  # type: ignore[operator]
    assert found["plain"].curves["masked"] == []
    # The attacks that ask for outputs alone see no difference.
    for name in ("clean", "squares/51-255", "transfer/51-255"):
        assert plain[f"attack/{name}"] == masked[f"attack/{name}"]
    assert found["masked"].curves["masked"] == [
        "squares beats pgd at ε = 51/255",
        "transfer beats pgd at ε = 51/255",
    ]
    assert masked["attack/masked/51-255"] > 0.1  # type: ignore[operator]
    assert masked["attack/worst/51-255"] <= masked["attack/squares/51-255"]  # type: ignore[operator]
    # Nothing is transferred from a network to itself.
    own = subject_of(source, torch.device("cpu"), lambda: None)
    few = settings.model_copy(update={"also": (), "images": 8})
    assert attack.measure(own, few).metrics["attack/transfer/51-255"] is None


def test_settings_of_before_are_written_as_before() -> None:
    (usual,) = catalogue.resolve({}, ["attack"]).values()
    assert list(usual) == ["epsilons", "steps", "stride", "images", "seed"]
    changes = {"attack.also": "squares", "attack.source": 12345678}
    (other,) = catalogue.resolve(changes, ["attack"]).values()
    assert other == {**usual, "also": ["squares"], "source": "12345678"}
    assert catalogue.changed("attack", other) == {"also": ["squares"], "source": "12345678"}
    assert catalogue.parse("attack", other) == asked(also=["squares"], source="12345678")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("zzzzzzzz", "attack.source: got 'zzzzzzzz', no run of the sweep has that key"),
        ("unfinished", "a run that is not finished"),
        ("other", "a network of other classes (fashion_mnist: "),
    ],
)
def test_a_source_that_is_none(
    sweep: SweepFolder, source: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = sweep.plan()[1].run_key
    if source == "unfinished":
        (sweep.plan()[1].folder.path / "result.json").unlink()
    if source == "other":
        path = sweep.path / "plan.jsonl"
        first, second = path.read_text().splitlines()
        row = json.loads(second)
        row["config"]["dataset"]["name"] = "fashion_mnist"
        path.write_text(f"{first}\n{json.dumps(row)}\n")
    wanted = source if source.startswith("z") else key
    status = cli.main(["evaluate", "small", "--only", "attack", "--set", f"attack.source={wanted}"])
    said = capsys.readouterr()
    assert status == 2 and not said.out
    (line,) = said.err.splitlines()
    assert words in line
    assert not list(sweep.path.rglob("attack*"))
