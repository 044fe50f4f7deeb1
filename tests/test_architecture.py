"""The shape of the code: no import circles, short files, light start-up, nothing of one machine.

Which folder and room may import which is in pyproject.toml; import-linter checks it in `make lint`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "timm", "mlflow")

FOLDERS = ("augmentations", "experiments", "slurm", "analysis")


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """The name that a file of ours is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["mixbench", *parts]).removesuffix(".__init__")


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """The syntax tree of every module of ours, by name."""
    paths = [path for folder in FOLDERS for path in sources(folder)]
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def imported(tree: ast.Module, known: Collection[str]) -> set[str]:
    """The modules of ours that a module imports: lazily and for types alone too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "import modules by their full names"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else str(node.module))
    return found & set(known)


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The groups of nodes that reach each other (Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in stack:
                lowest[node] = min(lowest[node], index[target])
        if lowest[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return groups


def test_circles_are_seen() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [["b", "c"]]
    tree = ast.parse("def f():\n    from m.a import b\n    import m.c\n    from m import d, e")
    assert imported(tree, ["m.a", "m.c", "m.d", "m"]) == {"m.a", "m.c", "m.d", "m"}


def test_no_module_imports_itself_in_a_circle(modules: dict[str, ast.Module]) -> None:
    graph = {name: imported(tree, modules) - {name} for name, tree in modules.items()}
    assert sum(map(len, graph.values())) > 500
    assert circles(graph) == []


def test_modules_are_imported_as_mixbench(modules: dict[str, ast.Module]) -> None:
    for name, tree in modules.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {one.split(".")[0] for one in names} & set(FOLDERS), name


LONGEST_FILE = 400
LONGEST_FUNCTION = 80
MOST_LEAVES = 8


def test_files_and_functions_can_be_held_in_mind(modules: dict[str, ast.Module]) -> None:
    too_long = [
        str(path)
        for folder in FOLDERS
        for path in sources(folder)
        if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE
    ]
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION:
                    too_long.append(f"{name}.{node.name}")
    assert too_long == []


def test_the_root_of_experiments_holds_leaves_only() -> None:
    leaves = [path for path in (ROOT / "experiments").glob("*.py") if path.stem != "__init__"]
    assert 0 < len(leaves) <= MOST_LEAVES


@pytest.mark.parametrize("folder", [*FOLDERS, "tests", "mixbench"])
def test_the_formatter_has_no_exceptions(folder: str) -> None:
    mark = "fmt: " + "skip"
    assert [path for path in sources(folder) if mark in path.read_text(encoding="utf-8")] == []


def test_the_launcher_is_without_torch() -> None:
    code = (
        "import sys\n"
        "from mixbench.experiments import cli, tracking\n"
        "from mixbench.experiments.config import resolve\n"
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
    names = {path.stem for folder in (*FOLDERS, "tests") for path in sources(folder)}
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
