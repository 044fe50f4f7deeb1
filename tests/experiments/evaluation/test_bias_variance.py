"""Bias and variance over runs: by hand, against the mean losses, and as the command stores them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import entropy

from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation import catalogue, metrics
from mixbench.experiments.evaluation.bias_variance import BiasVarianceSettings
from mixbench.experiments.evaluation.bias_variance.decompose import (
    PARTS,
    decompose,
    pseudo_values,
)
from mixbench.experiments.evaluation.bias_variance.measure import measure_cell
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import evaluate

Logits = NDArray[np.float32]


@pytest.fixture
def runs() -> tuple[list[Logits], NDArray[np.int64]]:
    """Five networks that agree more or less, on 40 images of 4 classes."""
    random = np.random.default_rng(0)
    common = random.normal(size=(40, 4)) * 2
    logits = [(common + random.normal(size=(40, 4))).astype(np.float32) for _ in range(5)]
    return logits, random.integers(4, size=40)


def test_votes_by_hand() -> None:
    # Rows are images, of class 0; numbers are the classes that three networks predict.
    says = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [2, 2, 2]])
    logits = [np.eye(3)[says[:, run]] * 9.0 for run in range(3)]
    of_all, _, _ = decompose(logits, np.zeros(4, np.int64))
    found = dict(zip(PARTS, of_all, strict=True))
    assert found["zero_one/bias"] == 2 / 4  # the third and the last
    assert found["zero_one/variance"] == pytest.approx((0 + 1 + 1 + 0) / 12)
    # In the second a run is wrong by differing, in the third one is right by it.
    assert found["zero_one/net_variance"] == pytest.approx(0)


def test_definitions(runs: tuple[list[Logits], NDArray[np.int64]]) -> None:
    logits, labels = runs
    p = softmax(np.stack(logits).astype(np.float64), axis=2)
    truth = np.eye(4)[labels]
    geometric = np.exp(np.log(p).mean(axis=0))
    geometric /= geometric.sum(axis=1, keepdims=True)
    found = dict(zip(PARTS, decompose(logits, labels)[0], strict=True))
    assert found["log/bias"] == pytest.approx(entropy(truth, geometric, axis=1).mean())
    divergence = [entropy(geometric, one, axis=1).mean() for one in p]
    assert found["log/variance"] == pytest.approx(np.mean(divergence))
    assert found["brier/bias"] == pytest.approx(((p.mean(axis=0) - truth) ** 2).sum(1).mean())
    assert found["brier/variance"] == pytest.approx(p.var(axis=0).sum(axis=1).mean())


def test_the_parts_add_up_and_the_jackknife_is_unbiased(
    runs: tuple[list[Logits], NDArray[np.int64]],
) -> None:
    logits, labels = runs
    pairs = [(one, labels) for one in logits]
    found = [one.metrics for one in measure_cell(pairs, BiasVarianceSettings())]
    for own, one in zip(found, logits, strict=True):
        of = {part: own[f"bias_variance/{part}"] or 0.0 for part in PARTS}
        assert of["log/bias"] + of["log/variance"] == pytest.approx(metrics.nll(one, labels))
        error = 1 - metrics.accuracy(one, labels)
        assert of["zero_one/bias"] + of["zero_one/net_variance"] == pytest.approx(error)
        truth = np.eye(4)[labels]
        brier = np.square(softmax(one.astype(np.float64), axis=1) - truth).sum(axis=1).mean()
        assert of["brier/bias"] + of["brier/variance"] == pytest.approx(brier)
    p = softmax(np.stack(logits).astype(np.float64), axis=2)
    unbiased = p.var(axis=0, ddof=1).sum(axis=1).mean()
    mean = np.mean([own["bias_variance/brier/variance"] or 0.0 for own in found])
    assert mean == pytest.approx(unbiased)


def test_without_a_run_is_as_if_it_had_never_been(
    runs: tuple[list[Logits], NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels = runs
    of_all, without, errors = decompose(logits, labels)
    for run in range(5):
        rest = [one for number, one in enumerate(logits) if number != run]
        assert without[run] == pytest.approx(decompose(rest, labels)[0], abs=1e-12)
    assert pseudo_values(of_all, without).shape == without.shape
    # In pieces of any size.
    monkeypatch.setattr("mixbench.experiments.evaluation.bias_variance.decompose.CHUNK", 7)
    assert decompose(logits, labels)[0] == pytest.approx(of_all, abs=1e-12)
    assert decompose(logits, labels)[2] == pytest.approx(errors, abs=1e-12)


def test_what_cannot_be_split(runs: tuple[list[Logits], NDArray[np.int64]]) -> None:
    logits, labels = runs
    none = BiasVarianceSettings()
    with pytest.raises(Impossible, match="two finished runs"):
        measure_cell([(logits[0], labels)], none)
    with pytest.raises(Impossible, match="different test images"):
        measure_cell([(logits[0], labels), (logits[1], labels[::-1])], none)
    with pytest.raises(Impossible, match="not finite"):
        measure_cell([(logits[0], labels), (logits[1] * np.nan, labels)], none)


def test_a_run_that_finishes_later_has_its_cell_measured_anew(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sweep.plan()
    # Two runs of one cell.
    plan = [first, type(second)(**{**second.__dict__, "cell_key": first.cell_key})]
    monkeypatch.setattr(SweepFolder, "plan", lambda _: plan)
    wanted = catalogue.resolve({}, ["bias_variance"])
    result = second.folder.path / "result.json"
    shutil.move(result, second.folder.path / "later.json")
    assert evaluate.work(sweep, wanted, "cpu", "one") == 0
    assert "two finished runs" in evaluations.left_out(first.folder)["bias_variance"]
    shutil.move(second.folder.path / "later.json", result)
    # The weights are not needed.
    for run in plan:
        (run.folder.path / "checkpoint.pt").unlink()
    assert evaluate.work(sweep, wanted, "cpu", "two") == 0
    for run in plan:
        assert not evaluations.left_out(run.folder)
        kept = evaluations.read(run.folder)["bias_variance"]
        assert kept["curves"]["runs"] == 2 and set(kept["metrics"]) == {
            f"bias_variance/{part}" for part in PARTS
        }
    # Damaged predictions are a failure, and cost nothing that was there.
    (second.folder.path / "predictions.npz").write_bytes(b"PK nothing")
    assert evaluate.work(sweep, wanted, "cpu", "three", since=1e11) == 2
    assert "missing or damaged" in evaluations.failures(first.folder)["bias_variance"]
    assert "bias_variance" in evaluations.read(first.folder)
