"""The digest of a plug-in's code: its contents alone, whatever the place and the install."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from mixbench.augmentations import registry
from mixbench.augmentations.plugin_source import digest
from tests.augmentations.test_plugins import METHOD, forget, site

__all__ = ["site"]  # a fixture

SOURCES = {
    "spread/__init__.py": "",
    "spread/methods/__init__.py": "from spread_helpers import width\n",
    "spread/methods/other.py": METHOD.format(name="other"),
    "spread_helpers.py": "import json, lab.tables\nwidth = 3\n",
    "lab/tables/__init__.py": "table = [1, 2]\n",
}
"""A plug-in of a package, a module beside it, and a part of a namespace package."""


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())


def register(site: Path, listed: bool) -> None:
    """Register the plug-in in `site`: with the list of its files, as pip does, or without."""
    info = site / "spread-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spread\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mixbench.augmentations]\nother = spread.methods.other:Other\n"
    )
    if listed:
        (info / "RECORD").write_text("".join(f"{name},,\n" for name in SOURCES))


def code_now() -> str | None:
    for name in [name for name in sys.modules if name.startswith(("spread", "lab"))]:
        del sys.modules[name]
    forget()
    (plugin,) = [plugin for plugin in registry.plugins() if plugin.name == "other"]
    assert plugin.method is not None, plugin.problem
    return digest([plugin.method], "spread")


def wheel(site: Path) -> str | None:
    put(site, SOURCES)
    # Other people's packages in the same folder are not the plug-in, imported or not.
    put(site, {"json_.py": "x = 1", "lab/other/__init__.py": "y = 2", "a-1.dist-info/RECORD": ""})
    register(site, listed=True)
    return code_now()


def test_a_wheel_an_editable_install_and_a_copy_have_one_digest(
    site: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = wheel(site)
    assert installed is not None and len(installed) == 16
    sources = tmp_path_factory.mktemp("sources") / "src"
    put(sources, {**SOURCES, "spread/notes.txt": "not code"})
    put(sources, {"spread/methods/__init__.py": "from spread_helpers import width\r\n"})
    put(sources, {"spread/__pycache__/old.cpython-311.pyc": "?"})
    shutil.rmtree(site / "spread")
    shutil.rmtree(site / "lab")
    (site / "spread_helpers.py").unlink()
    (site / "spread-1.0.dist-info" / "RECORD").unlink()
    register(site, listed=False)
    monkeypatch.syspath_prepend(str(sources))
    assert code_now() == installed


@pytest.mark.parametrize("changed", SOURCES)
def test_a_change_of_any_of_its_files_is_another_digest(changed: str, site: Path) -> None:
    before = wheel(site)
    with (site / changed).open("a") as file:
        file.write("# edited\n")
    assert code_now() != before


def test_what_is_not_its_code_changes_nothing(site: Path) -> None:
    before = wheel(site)
    put(site, {"lab/other/__init__.py": "y = 3", "json_.py": "x = 2", "spread/data.txt": "1"})
    assert code_now() == before
    put(site, {"spread/fast.so": "compiled"})
    assert code_now() != before
