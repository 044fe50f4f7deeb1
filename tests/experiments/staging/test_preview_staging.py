"""`mixbench preview METHOD --staging SCHEDULE`: the timeline of what is planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mixbench.analysis.figures import timeline as drawing
from mixbench.experiments.cli import main
from mixbench.experiments.staging.named import NAMED


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What the figure is given, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    given: list[Any] = []
    figure = drawing.timeline_figure

    def spy(timelines: Any, *rest: Any) -> bytes:
        given.extend(timelines)
        return figure(timelines[:1], *rest)

    monkeypatch.setattr(drawing, "timeline_figure", spy)
    return given


def run(*words: str) -> int:
    return main(["preview", *words])


def test_a_schedule_by_name(drawn: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cutmix", "--staging", "first_50", "--set", "prob=0.8") == 0
    assert "wrote preview_staging.png" in capsys.readouterr().out
    with Image.open("preview_staging.png") as image:
        assert image.width > image.height > 100
    (line,) = drawn
    assert [row["prob"] for row in line.rows] == pytest.approx([0.8] * 15 + [0.0] * 15)
    assert line.name == "first_50" and line.unfreezings == []


def test_several_and_all(drawn: list[Any]) -> None:
    words = ["--staging", "hesitate", "--staging", "all", "--epochs", "10", "--out", "all.png"]
    assert run("cutmix", *words) == 0
    assert {line.name for line in drawn} == set(NAMED) and len(drawn) == len(NAMED)
    assert drawn[0].name == "hesitate" and {len(line.rows) for line in drawn} == {10}
    assert Path("all.png").is_file() and not Path("preview_staging.png").exists()


@pytest.mark.parametrize("is_section", [True, False])
def test_a_schedule_from_a_file(drawn: list[Any], is_section: bool) -> None:
    phases = "phases: [{to: 0.5, alpha: {to: 0.2}}, {method: {name: mixup, alpha: 0.3}}]"
    transfer = "transfer: {freeze: all, unfreeze: [{at: epoch 3, down_to: all}]}"
    text = f"staging: {{{phases}}}\n{transfer}\n" if is_section else f"{phases}\n"
    Path("mine.yaml").write_text(text)
    assert run("cutmix", "--staging", "mine.yaml", "--epochs", "8") == 0
    (line,) = drawn
    assert [row["method"] for row in line.rows] == ["cutmix"] * 4 + ["mixup"] * 4
    assert [row["alpha"] for row in line.rows][4:] == [0.3] * 4
    assert line.unfreezings == ([3.0] if is_section else [])


BAD = {
    "an unknown name": (["--staging", "hesitat"], "did you mean 'hesitate'?"),
    "a file that is not there": (["--staging", "no.yaml"], "there is no file 'no.yaml'"),
    "a file of something else": (["--staging", "other.yaml"], "expected a mapping with `staging`"),
    "phases that overlap": (["--staging", "wrong.yaml"], "staging.phases[1].from"),
    "epochs without a schedule": (["--epochs", "3"], "--epochs: is for --staging alone"),
    "no epoch": (["--staging", "always", "--epochs", "0"], "--epochs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, drawn: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.yaml").write_text("grid: {augmentation.name: [cutmix]}\n")
    Path("wrong.yaml").write_text("phases: [{to: 0.6}, {from: 0.5}]\n")
    words, said = BAD[name]
    assert run("cutmix", *words) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not list(Path().glob("*.png"))
