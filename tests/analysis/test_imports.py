"""The analysis must start without torch, and its parts must not lean on each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from mixbench import analysis

FOLDER = Path(analysis.__file__).parent
FORBIDDEN = (
    "torch",
    "torchvision",
    "timm",
    "mlflow",
    "mixbench.augmentations",
    "mixbench.slurm",
    "matplotlib.pyplot",
)


def test_nothing_heavy_is_imported() -> None:
    names = [
        ".".join(path.relative_to(FOLDER).with_suffix("").parts)
        for path in FOLDER.rglob("*.py")
        if path.stem != "__init__"
    ]
    assert len(names) > 20
    code = "\n".join(
        [
            "import sys",
            *(f"import mixbench.analysis.{name}" for name in names),
            f"print(*[name for name in {FORBIDDEN!r} if name in sys.modules])",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_only_what_reads_folders_of_experiments() -> None:
    allowed = (
        "mixbench.experiments.store",
        "mixbench.experiments.design",
        "mixbench.experiments.errors",
        "mixbench.experiments.yaml_file",
        "mixbench.experiments.merge",
        "mixbench.experiments.text",
    )
    wrong = [
        (path.name, name)
        for path in sorted(FOLDER.rglob("*.py"))
        for name in imports(path)
        if name.startswith("mixbench.experiments.") and not name.startswith(allowed)
    ]
    assert wrong == []


def test_statistics_and_drawing_do_not_know_each_other() -> None:
    pure = "estimates max_t two_way power contrasts best_set exact images components sequential"
    for name in pure.split():
        others = {
            found
            for found in imports(FOLDER / "statistics" / f"{name}.py")
            if not found.startswith(("mixbench.analysis.numbers", "mixbench.analysis.statistics"))
        }
        assert not any(found.startswith(("mixbench", "pandas", "matplotlib")) for found in others)
    for path in (FOLDER / "figures").glob("*.py"):
        ours = {name for name in imports(path) if name.startswith("mixbench.analysis.statistics")}
        assert all(name.startswith("mixbench.analysis.statistics.metrics") for name in ours)
