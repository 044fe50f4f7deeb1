"""The wheel, the sdist and the editable install: one import name, and everything that is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("augmentations", "experiments", "analysis", "slurm")
USE = """
import importlib, sys
import mixbench
print(mixbench.__file__)
assert "torch" not in sys.modules
assert "cutmix" in mixbench.available() and mixbench.create("cutmix", alpha=0.2).alpha == 0.2
for name in {folders}:
    importlib.import_module(f"mixbench.{{name}}")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{{name}} can be imported without mixbench")
from mixbench.experiments.cli import main
raise SystemExit(main(["profile", "list"]))
"""


def run(*command: object, cwd: Path) -> str:
    # Without what leads to this checkout.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows or would take, links as links."""
    copy = tmp_path_factory.mktemp("checkout") / "mixbench"
    copy.mkdir()
    command = ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=False).stdout
    if not names:
        pytest.skip("not a checkout")
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).exists() and not name.startswith(("tests/", "results/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    """The folder with the sdist and the wheel that is built from it."""
    out = checkout.parent / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, checkout, cwd=ROOT)
    return out


def new_environment(folder: Path) -> Path:
    """A virtual environment with our dependencies, but without mixbench: its Python."""
    venv.create(folder, with_pip=False)
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site,) = folder.glob("lib/python*/site-packages")
    # A folder named in a .pth file is on the path, but its own .pth files, such as that of our
    # editable install, are not read.
    (site / "dependencies.pth").write_text("\n".join(sorted(paths)))
    return folder / "bin" / "python"


def install(python: Path, *what: object) -> None:
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"),
        *(
            "--no-compile",
            "--disable-pip-version-check",
            "--no-index",
            "--no-build-isolation",
            "--force-reinstall",
            *what,
        ),
        cwd=python.parent,
    )


def use(python: Path, folder: Path) -> Path:
    """Import mixbench and run its command in an empty folder; where it came from."""
    folder.mkdir()
    code = USE.format(folders=FOLDERS)
    where, _, profiles = run(python, "-c", code, cwd=folder).partition("\n")
    assert "a100" in profiles
    listed = run(python.parent / "mixbench", "list", cwd=folder)
    assert "cutmix" in listed and "data_fraction" in listed
    return Path(where)


def files(names: list[str]) -> set[str]:
    """The files of the code among `names`, relative to the folder that holds `mixbench/`."""
    return {name for name in names if not name.endswith("/") and name.startswith("mixbench/")}


def code_of(checkout: Path) -> set[str]:
    kinds = (".py", ".yaml", ".html", ".css", ".typed")
    found = {"mixbench/__init__.py", "mixbench/py.typed"}
    for folder in FOLDERS:
        for path in (checkout / folder).rglob("*"):
            if path.suffix in kinds or path.parent.name == "templates":
                found.add(f"mixbench/{path.relative_to(checkout)}")
    return found


def test_the_wheel_holds_the_code_under_one_name(checkout: Path, built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mixbench"}
    wanted = code_of(checkout)
    assert len(wanted) > 200 and files(names) == wanted


def test_the_sdist_holds_files_where_the_checkout_has_links(checkout: Path, built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert all(member.isfile() or member.isdir() for member in members)
    names = [member.name.partition("/")[2] for member in members if member.isfile()]
    assert files(names) >= code_of(checkout)


def test_the_wheel_is_used(built: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "environment")
    install(python, *built.glob("*.whl"))
    where = use(python, tmp_path / "empty")
    assert where.is_relative_to(tmp_path / "environment")


def test_the_editable_install_is_the_checkout(checkout: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "environment")
    install(python, "--editable", checkout)
    assert use(python, tmp_path / "empty") == checkout / "mixbench" / "__init__.py"
