"""`mixbench bench augment`: what it prints and writes, and what it says to wrong input."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from mixbench.experiments import cli
from mixbench.experiments.benchmarks import augment, peers

TINY = ["bench", "augment", "--device", "cpu", "--seconds", "0", "--shapes", "4x3x8x8"]
CPU = torch.device("cpu")


def test_json_has_every_contestant_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main([*TINY, "--methods", "cutmix,ricap", "--json", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == augment.SCHEMA
    keys = [(row["library"], row["method"], row["mode"]) for row in result["rows"]]
    assert len(keys) == len(set(keys))
    wanted = {
        ("mixbench", "cutmix", "batch"),
        ("mixbench", "cutmix", "sample"),
        ("timm", "cutmix", "sample"),
        ("torchvision", "cutmix", "batch"),
        ("mixbench", "ricap", "sample"),
    }
    assert wanted <= set(keys)
    for row in result["rows"]:
        assert row["shape"] == [4, 3, 8, 8]
        assert row["images_per_second"] == pytest.approx(4 / row["seconds"])
        assert row["times_copy"] > 0
        # A new batch is 3,072 bytes; who works in place need not allocate it.
        assert row["in_place"] or row["peak_megabytes"] >= 4 * 3 * 8 * 8 * 4 / 1e6
    assert json.loads((tmp_path / "augment.json").read_text()) == result
    assert (tmp_path / "augment.png").read_bytes().startswith(b"\x89PNG")
    assert "mixbench" in (tmp_path / "augment.md").read_text()


def test_the_table_names_all_and_compares(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TINY, "--methods", "mixup"]) == 0
    lines = capsys.readouterr().out.splitlines()
    ours = [line for line in lines if line.startswith("mixup") and "mixbench" in line]
    assert len(ours) == 2
    assert all(line.rstrip().endswith("1.00x") for line in ours)
    assert any("timm (in place)" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--methods", "cutmxi"], "did you mean 'cutmix'"),
        (["--shapes", "4x3x8"], "--shapes: got '4x3x8', expected BxCxHxW such as 128x3x32x32"),
        (["--shapes", "4x0x8x8"], "--shapes: got '4x0x8x8'"),
        (["--device", "tpu"], "tpu"),
        (["--out", __file__], "is a file, expected a folder"),
        (["--out", f"{__file__}/in/it"], "is a file, expected a folder"),
        (["--methods", "cutmix", "--shapes", "999999999x9x999x999"], "--shapes: the memory is too"),
    ],
)
def test_wrong_input_is_one_line(
    capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    assert cli.main([*TINY, *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert expected in printed.err


def test_an_unknown_benchmark_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "augmnt"]) == 2
    assert "Did you mean 'augment'" in capsys.readouterr().err


def test_a_library_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = peers.find_spec
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "kornia" else found(name))
    result = augment.measure(["cutmix"], [(2, 1, 4, 4)], CPU, seconds=0)
    assert result["missing"] == ["kornia"]
    assert "kornia" not in {row["library"] for row in result["rows"]}
    assert "not installed, left out: kornia" in augment.table(result)


def test_a_library_that_is_damaged_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(name: str) -> object:
        if name == "kornia":
            raise ImportError("no module named 'kornia_rs'")
        return import_module(name)

    monkeypatch.setattr(peers, "import_module", damaged)
    result = augment.measure(["mixup"], [(2, 1, 4, 4)], CPU, seconds=0)
    assert result["missing"] == ["kornia"]


def test_who_does_not_take_a_batch_is_left_out() -> None:
    result = augment.measure(["cutmix", "fmix"], [(3, 1, 4, 4), (2, 1, 4, 4)], CPU, seconds=0)
    (refused,) = result["refused"]
    assert refused.startswith("timm, cutmix at 3 x 1 x 4 x 4: Batch size should be even")
    assert f"left out: {refused}" in augment.table(result).splitlines()
    timms = {tuple(row["shape"]) for row in result["rows"] if row["library"] == "timm"}
    assert timms == {(2, 1, 4, 4)}


def test_a_mistake_of_ours_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("ours")

    entry = peers.Entry(peers.OURS, "cutmix", False, broken)
    monkeypatch.setattr(peers, "entries", lambda *_: [entry])
    with pytest.raises(ValueError, match="ours"):
        augment.measure(["cutmix"], [(2, 1, 4, 4)], CPU, seconds=0)


@pytest.mark.parametrize("method", peers.METHODS)
def test_every_contestant_mixes(method: str) -> None:
    """Each gives images of the same shape that differ from what came, and finite ones."""
    torch.manual_seed(0)
    np.random.seed(0)
    for entry in peers.entries(method, (8, 3, 16, 16), 10, CPU):
        images = torch.rand(8, 3, 16, 16) + 0.5
        before = images.clone()
        mixed = entry.call(images, torch.arange(8))
        mixed = mixed.images if entry.library == peers.OURS else mixed[0]
        assert mixed.shape == before.shape, entry
        assert bool(mixed.isfinite().all()), entry
        assert not torch.equal(mixed, before), entry
        assert torch.equal(images, before) != entry.in_place, entry


def test_the_best_fifth_counts() -> None:
    assert augment.best([5.0, 1.0, 9.0, 2.0, 8.0, 7.0, 6.0, 4.0, 3.0, 10.0]) == 1.5
    assert augment.best([3.0, 2.0]) == 2.0


def test_the_official_masks_have_lambda_n_pixels() -> None:
    np.random.seed(0)
    for lam in (0.0, 0.25, 0.6, 1.0):
        mask = peers.official_fmix_mask(16, 12, lam)
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert abs(mask.sum() - lam * 16 * 12) < 1
