"""Networks of the user's own: keys follow the code, bad functions are refused."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbench.experiments.config import own_code
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.models.check_own import check_network
from mixbench.experiments.models.dry_forward import check_size

SOURCE = """
from ownnets.parts import head
from torch import nn
import torch

def build(channels, classes):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), head(classes))

def short(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))

def seeded(classes):
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes))

def nothing():
    return {}

def more(depth):
    pass
"""
PARTS = """
from torch import nn

def head(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, classes))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "ownnets"
    folder.mkdir()
    for name, text in {"__init__": "", "nets": SOURCE, "parts": PARTS}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    own_code.function_of.cache_clear()
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "ownnets"]:
        del sys.modules[name]
    own_code.function_of.cache_clear()


def _config(function: str, **model: Any) -> Any:
    return parse(
        {"dataset": {"name": "digits"}, "model": {"name": f"ownnets.nets:{function}", **model}}
    )


def test_the_code_is_part_of_the_key_and_a_planned_run_needs_its_own(package: Path) -> None:
    planned = _config("build")
    network = build(planned.model, channels=1, classes=10, size=8, seed=0)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert parse(planned.model_dump(mode="json")).run_key == planned.run_key
    (package / "parts.py").write_text(PARTS + "# changed\n")
    changed = _config("build")
    assert changed.run_key != planned.run_key and changed.model.source != planned.model.source
    with pytest.raises(UserError, match=r"the code of ownnets.nets:build has changed"):
        parse(planned.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("nothing", r"ownnets.nets:nothing returned a dict, expected a torch.nn.Module"),
        (
            "more",
            r"failed .TypeError: .*called with those of channels, classes, size that it takes",
        ),
        ("short", r"gives \[2, 2\] for two images, expected logits of shape \[2, 10\]"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_function_without_a_fitting_network_is_refused(
    function: str, words: str, package: Path
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        check_size(_config(function).model, channels=3, classes=10, size=32)
    assert "\n" not in str(caught.value)


def test_check_names_what_is_broken(package: Path) -> None:
    assert not any(broken for _, broken in check_network("ownnets.nets:build"))
    found = dict(check_network("ownnets.nets:seeded"))
    assert [promise for promise, broken in found.items() if broken] == [
        "has the same initial weights for one seed, others for another",
        "takes grey images",
    ]
    with pytest.raises(UserError, match="there is no module 'ownnet'"):
        parse({"dataset": {"name": "digits"}, "model": {"name": "ownnet.nets:build"}})
