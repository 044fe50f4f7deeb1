"""What `transfer.weights` may say: its one way of being written, and what of it is in the key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.config import weights as sources
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep.cell_parser import CellParser
from tests.support import running

CELL = "cell:0123456789abcdef"


def raw(weights: str | None, model: str = "small_cnn", **transfer: Any) -> dict[str, Any]:
    return {
        "dataset": {"name": "digits"},
        "model": {"name": model},
        "transfer": {"weights": weights, **transfer},
    }


def config(weights: str | None, model: str = "small_cnn") -> RunConfig:
    return parse(raw(weights, model))


def resolved(weights: str, model: str = "small_cnn") -> str:
    transfer = config(weights, model).transfer
    assert transfer is not None and transfer.weights is not None
    return transfer.weights


@pytest.mark.parametrize(
    ("model", "weights", "name"),
    [
        ("timm/resnet18", "hub", "resnet18.a1_in1k"),  # timm's first choice
        ("timm/resnet18.a1_in1k", "hub", "resnet18.a1_in1k"),
        ("timm/resnet18.tv_in1k", "hub", "resnet18.tv_in1k"),
        ("timm/resnet18", "hub:resnet18.tv_in1k", "resnet18.tv_in1k"),
    ],
)
def test_hub_says_which_weights_and_the_model_which_network(
    model: str, weights: str, name: str
) -> None:
    found = config(weights, model)
    assert found.model.name == "timm/resnet18"
    assert found.transfer is not None and found.transfer.weights == f"hub:{name}"


def test_other_weights_of_the_hub_are_another_run() -> None:
    one, same, other = (
        config("hub", f"timm/resnet18{tag}").run_key for tag in ("", ".a1_in1k", ".tv_in1k")
    )
    assert one == same != other


def test_without_weights_a_tag_says_nothing() -> None:
    tagged, bare = (
        parse({"dataset": {"name": "digits"}, "model": {"name": name}})
        for name in ("timm/resnet18.tv_in1k", "timm/resnet18")
    )
    assert tagged.run_key == bare.run_key and tagged.model.name == "timm/resnet18"


def test_a_file_is_what_is_in_it_wherever_it_is(tmp_path: Path) -> None:
    here, there = tmp_path / "a.pt", tmp_path / "deeper" / "b.bin"
    there.parent.mkdir()
    here.write_bytes(b"weights")
    there.write_bytes(b"weights")
    first = config(f"file:{here}")
    assert config(f"file:{there}").run_key == first.run_key
    assert config(str(there)).cell_key == first.cell_key, "a bare path is a file"
    # As long, in the same place, and changed within one tick of a coarse clock.
    before = here.stat()
    here.write_bytes(b"WEIGHTS")
    os.utime(here, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert config(f"file:{here}").run_key != first.run_key


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    found = {resolved(text) for text in ("w.safetensors", "file:w.safetensors", "./w.safetensors")}
    assert len(found) == 1
    assert re.fullmatch(rf"file:{re.escape(str(tmp_path))}/w\.safetensors#[0-9a-f]{{16}}", *found)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert {resolved("~/w.safetensors")} == found


def test_a_plan_is_read_where_the_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"x")
    planned = config(f"file:{path}")
    path.unlink()
    again = parse(planned.model_dump(mode="json"))
    assert again == planned and again.run_key == planned.run_key


def test_the_place_is_no_part_of_what_identifies(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"x")
    source = sources.parts(resolved(str(path)))
    assert (source.kind, source.location) == ("file", str(path))
    assert sources.identity(resolved(str(path))) == f"file:{sources.digest_of(path)}"
    assert sources.identity(f"run:first/{'a' * 16}") == f"run:{'a' * 16}"
    assert sources.identity("hub:resnet18.a1_in1k") == "hub:resnet18.a1_in1k"
    assert sources.identity(CELL) == CELL


def test_the_beginning_of_a_run_key_is_enough(runs: Path) -> None:
    folder = running.planned(running.spec("first"))
    key = folder.plan()[1].run_key
    whole = f"run:first/{key}"
    assert resolved(f"run:first/{key[:10]}") == resolved(whole) == whole
    assert config(f"run:first/{key[:10]}").run_key == config(whole).run_key


def test_the_cells_of_a_sweep_have_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"x")
    for weights, model in ((str(path), "small_cnn"), ("hub", "timm/resnet18.tv_in1k")):
        cell = CellParser().parse(raw(weights, model), [(None, 0), (None, 1)])
        assert cell.key == config(weights, model).cell_key
        assert cell.run_keys[0] == config(weights, model).run_key == cell.runs[0].run_key


def test_weights_are_another_run_and_no_weights_none() -> None:
    scratch = parse({"dataset": {"name": "digits"}})
    assert config(None).run_key == scratch.run_key
    assert config(CELL).run_key != scratch.run_key


FORMS = "expected hub, efficientnet_lite0, file:PATH, run:SWEEP/KEY or pretrain:NAME, or a path"
BAD = {
    "hub and our own": ("hub", "small_cnn", "hub is for a model of timm, got model small_cnn"),
    "hub without weights": (
        "hub",
        "timm/botnet50ts_256",
        "hub has no weights for model timm/botnet50ts_256",
    ),
    "hub of another model": (
        "hub:resnet34.a1_in1k",
        "timm/resnet18",
        "which are not for model timm/resnet18",
    ),
    "two names": (
        "hub:resnet18.a1_in1k",
        "timm/resnet18.tv_in1k",
        "timm/resnet18.tv_in1k names other",
    ),
    "an unknown tag": ("hub", "timm/resnet18.tv_in1", "did you mean 'resnet18.tv_in1k'?"),
    "lite0 and another model": (
        "efficientnet_lite0",
        "timm/resnet18",
        "efficientnet_lite0 is for model timm/tf_efficientnet_lite0, got model timm/resnet18",
    ),
    "a slip": ("efficientnet_lite", "small_cnn", "did you mean 'efficientnet_lite0'?"),
    "another slip": ("hubb", "small_cnn", f"got 'hubb', {FORMS}"),
    "no file": ("file:{folder}/wieghts.pt", "small_cnn", "did you mean 'weights.pt'?"),
    "no folder": ("file:{folder}/none/w.pt", "small_cnn", "/none/w.pt' is not a file"),
    "a folder": ("file:{folder}", "small_cnn", "is a folder"),
    "an empty path": ("file:", "small_cnn", "is not a file"),
    "no such bare path": ("{folder}/w.bin", "small_cnn", "/w.bin' is not a file"),
    "a run without a key": ("run:first", "small_cnn", "'run:first', expected run:SWEEP/KEY"),
    "an unknown sweep": ("run:frist/abc", "small_cnn", "did you mean 'first'?"),
    "an unknown run": ("run:first/zzz", "small_cnn", "no run 'zzz' in sweep 'first'"),
    "no cell": ("cell:xyz", "small_cnn", f"got 'cell:xyz', {FORMS}"),
    "a pretraining": ("pretrain:base", "small_cnn", "a sweep with that name under `pretrain`"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_line_says_what_is_wrong(case: str, runs: Path, tmp_path: Path) -> None:
    weights, model, expected = BAD[case]
    (tmp_path / "weights.pt").write_bytes(b"x")
    running.planned(running.spec("first"))
    with pytest.raises(UserError) as caught:
        config(weights.format(folder=tmp_path), model)
    message = str(caught.value)
    assert expected in message and "\n" not in message
    assert message.startswith("transfer.weights: ") or "timm model" in message


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"x")

    def refuse(_path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "digest_of", refuse)
    with pytest.raises(UserError, match=r"w\.pt' can't be read: Permission denied"):
        config(str(path))


def test_sources_are_without_torch() -> None:
    code = "import sys, mixbench.experiments.config.weights; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
