"""Data flows one way, and the imports say so; nothing of the machine it was made on is kept."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("augmentations", "experiments", "slurm", "analysis")
HEAVY = ("torch", "torchvision", "timm", "mlflow")

ALLOWED = {
    "augmentations": {"augmentations"},
    "experiments": {"experiments", "augmentations"},
    "slurm": {"slurm", "experiments"},
    "analysis": {"analysis", "experiments"},
}
EXCEPTIONS = {
    "experiments/cli": {"analysis", "slurm"},
}
"""Folders that may import more, inside functions alone."""


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """All modules that a file imports, anywhere in it, without the `mixbench.` of ours."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports by their full names"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert not {name.split(".")[0] for name in found} & set(OURS), f"{path}: import mixbench.X"
    return {name.removeprefix("mixbench.") for name in found}


def at_the_top(path: Path) -> set[str]:
    """The packages that a file imports whenever it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("mixbench.").split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").removeprefix("mixbench.").split(".")[0])
    return found


@pytest.mark.parametrize("folder", OURS)
def test_directions(folder: str) -> None:
    files = sources(folder)
    assert len(files) >= 2
    for path in files:
        more = EXCEPTIONS.get(str(path.parent.relative_to(ROOT)), set())
        ours = {module.split(".")[0] for module in imported(path)} & {*OURS, "tests"}
        assert ours <= ALLOWED[folder] | more, path


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_are_needed_and_only_when_used(name: str) -> None:
    used = set()
    for path in sources(name):
        used |= {module.split(".")[0] for module in imported(path)}
        assert not at_the_top(path) & EXCEPTIONS[name], path
    assert used >= EXCEPTIONS[name]


def test_the_analysis_is_without_torch() -> None:
    for path in sources("analysis"):
        assert not {module.split(".")[0] for module in imported(path)} & set(HEAVY), path


def test_workers_do_not_know_mlflow() -> None:
    outside = [path for path in sources("experiments") if path.parent.name != "tracking"]
    assert outside
    for path in [*outside, *sources("slurm"), *sources("augmentations")]:
        modules = imported(path)
        assert not any(module.split(".")[0] == "mlflow" for module in modules), path
        if path.parent.name != "cli":
            assert not any(
                module.startswith("mixbench.experiments.tracking") for module in modules
            ), path


def test_the_launcher_is_without_torch() -> None:
    code = (
        "import sys\n"
        "from mixbench.experiments import cli, tracking\n"
        "from mixbench.experiments.cli import list\n"
        "from mixbench.experiments.config import schema\n"
        "from mixbench.experiments.manage import estimate, render\n"
        "from mixbench.experiments.store import claims, sweep_folder\n"
        "from mixbench.experiments.sweep import expand\n"
        "from mixbench.experiments.worker import worker\n"
        "from mixbench.slurm import local\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {*HEAVY, "pandas", "numpy", "submitit"} & set(done.stdout.split())


def test_the_command_is_light() -> None:
    code = (
        "import sys, mixbench.experiments.cli; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {*HEAVY, "pydantic", "pandas", "numpy", "yaml", "matplotlib", "scipy"}
    assert not heavy & set(done.stdout.split())


def test_no_drawer_for_everything() -> None:
    names = {path.stem for folder in (*OURS, "tests") for path in sources(folder)}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


def tracked() -> list[Path]:
    """The files of the repository, whether committed yet or not."""
    try:
        done = subprocess.run(
            # Whoever the checkout belongs to.
            ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


HOSTS = re.compile(r"https?://[\w.-]+\.[a-z]{2,}|index[-_]url", re.I)
"""A host of the internet: which mirror is used is the machine's business."""
HOMES = re.compile(r"(?<![\w.$}])/(?:home|Users)/\w+|(?<![\w.$}/])/root(?:/|\b)")


def test_nothing_of_one_machine_is_kept() -> None:
    found = []
    texts = 0
    for path in tracked():
        if path == Path(__file__).resolve():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        texts += 1
        for pattern in (HOSTS, HOMES):
            found += [f"{path.relative_to(ROOT)}: {hit.group()}" for hit in pattern.finditer(text)]
    assert texts > 50
    assert found == []


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        ("see /home/someone/x", True),
        ("in /root/.cache", True),
        ("--index-url x", True),
        ("https://mirror.example.org/simple", True),
        ("http://127.0.0.1:5000", False),
        ("~/.cache/mixbench", False),
        ("$HOME/root", False),
        ("imagefolder:/path", False),
        ("the root of all", False),
    ],
)
def test_the_patterns_catch_what_they_should(text: str, caught: bool) -> None:
    assert bool(HOSTS.search(text) or HOMES.search(text)) == caught
