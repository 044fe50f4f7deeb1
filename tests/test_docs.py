"""What the README says is true: its examples run, its table is the committed study's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
import yaml

import mixbench
from mixbench.experiments.sweep import expand

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEAD = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
import torch
from mixbench import Draws, Method, Paste, Plan, parameter
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_library_example_runs_and_is_short() -> None:
    example = blocks("python")[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    subprocess.run([sys.executable, "-c", example], check=True, timeout=300)


def test_the_method_example_is_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    # A dataclass looks its module up by name.
    example = types.ModuleType("readme_example")
    monkeypatch.setitem(sys.modules, example.__name__, example)
    exec(HEAD + blocks("python")[1], vars(example))
    mix = example.HalfMix(share=0.25)
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 4, 8).contiguous()
    batch = mix(images, torch.arange(3), 3)
    assert torch.equal(
        batch.targets.dense(3),
        torch.stack(
            [(batch.images == label).float().mean(dim=(1, 2, 3)) for label in range(3)], dim=1
        ),
    )


def test_the_sweep_example_is_a_sweep(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("oak", "elm"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    spec = yaml.safe_load(blocks("yaml")[0].replace("/data/leaves", str(tmp_path)))
    assert len(expand.expand(spec).runs) == 20


def test_the_table_is_the_committed_study() -> None:
    runs = pd.read_csv(ROOT / "results" / "demo" / "runs.csv")
    rows = {}
    for line in README.splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")[1:-1]]
        if line.startswith("| `") and len(cells) == 7:
            rows[cells[0]] = cells[1:]
    assert set(rows) == set(runs["augmentation.name"])
    means = runs.groupby("augmentation.name").mean(numeric_only=True) * 100
    shown = (
        "test/accuracy",
        None,
        "test/ece",
        "test/gap",
        "occlusion/centre/area",
        "occlusion/patches/area",
    )
    wide = runs.pivot(index="seed", columns="augmentation.name", values="test/accuracy") * 100
    for name, cells in rows.items():
        for cell, column in zip(cells, shown, strict=True):
            number = re.match(r"[+\-\u2212]?\d+\.\d", cell)
            if column is None:
                expected = (wide[name] - wide["none"]).mean()
                if name == "none":
                    continue
            else:
                expected = means.loc[name, column]
            assert number, (name, cell)
            value = float(number[0].replace("\u2212", "-"))
            assert abs(value - expected) <= 0.05 + 1e-9, (name, column, value, expected)


PAGES = [Path("README.md"), *sorted(p.relative_to(ROOT) for p in ROOT.glob("[!.]*/README.md"))]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path / "site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    page = (tmp_path / "site" / "reference" / "methods.html").read_text(encoding="utf-8")
    pictures = set()
    for name in mixbench.available():
        assert f"mixbench.augmentations.methods.{name}" in page
        picture = tmp_path / "site" / "reference" / "pictures" / f"{name}.png"
        assert f'src="pictures/{name}.png"' in page
        pictures.add(picture.read_bytes())
    # Of methods inside the network they are the images that enter it, as of none.
    assert len(pictures) > 0.7 * len(mixbench.available())
    assert page.count("When to use.") == len(mixbench.available())


@pytest.mark.parametrize("name", mixbench.available())
def test_every_method_has_a_card_with_values_that_it_takes(name: str) -> None:
    card = mixbench.describe(name).card
    assert card is not None and card.use.endswith(".") and card.values
    for values in card.values.values():
        assert mixbench.create(name, **values)
