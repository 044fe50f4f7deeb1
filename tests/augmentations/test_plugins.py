"""Methods of other installed packages: the worked example, and packages that are broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench import augmentations
from mixbench.augmentations import registry
from mixbench.augmentations.discovery import GROUP
from mixbench.experiments import cli
from mixbench.experiments.store import provenance

EXAMPLE = Path(__file__).resolve().parent.parent / "example_package"


def install(folder: Path) -> None:
    """The worked example, as pip installs it, into `folder`."""
    source = folder.with_name("source")
    shutil.copytree(EXAMPLE, source)  # setuptools writes beside the sources
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--disable-pip-version-check", "--no-warn-conflicts"),
            *("--target", str(folder), str(source)),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin") / "site"
    install(folder)
    return folder


def forget() -> None:
    for function in (registry._built_in, registry.plugins, registry._methods):
        function.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder from which packages are found in this process, for as long as a test runs."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]
    monkeypatch.undo()
    forget()


def add(
    site: Path, distribution: str, entries: dict[str, str], module: str = "", version: str = "0.1"
) -> None:
    """Put a distribution with a module of its own name into `site`."""
    info = site / f"{distribution}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (site / f"{distribution}.py").write_text(module)
    forget()


METHOD = """
from dataclasses import dataclass
from typing import ClassVar
from mixbench.augmentations import Method

@dataclass(frozen=True, kw_only=True)
class Other(Method):
    name: ClassVar[str] = "{name}"
    summary: ClassVar[str] = "nothing new"
    def draw(self, draws):
        raise NotImplementedError
"""


def run(
    example: Path, *arguments: str, runs: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(example), "OMP_NUM_THREADS": "1"}
    if runs is not None:
        environment["MIXBENCH_RUNS"] = str(runs)
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


# --- the worked example -------------------------------------------------------------------------


def test_the_example_is_a_method_like_any_other(example: Path) -> None:
    code = (
        "import sys\nfrom mixbench import augmentations\n"
        "info = augmentations.describe('strip')\n"
        "print('strip' in augmentations.available(), info.source, 'torch' in sys.modules)\n"
        "print(augmentations.create('strip', alpha=2, prob=0.5))\n"
        "try: augmentations.create('strip', alpa=2)\n"
        "except ValueError as error: print(error)\n"
        "import pickle, torch\n"
        "mix = pickle.loads(pickle.dumps(augmentations.create('strip', per_sample=True)))\n"
        "batch = mix(torch.rand(4, 3, 8, 8), torch.arange(4), 4)\n"
        "print(tuple(batch.targets.dense(4).shape))\n"
        "print(augmentations.create('choice', methods=['strip', 'mixup']).methods[0])\n"
    )
    done = run(example, "-c", code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "True mixbench-strip 1.2.3 False"
    assert lines[1].startswith("Strip(") and "alpha=2.0" in lines[1] and "prob=0.5" in lines[1]
    assert lines[2].startswith("strip has no parameter 'alpa'; did you mean 'alpha'?")
    assert lines[3] == "(4, 4)"
    assert lines[4].startswith("Strip(")


def test_the_example_is_listed_with_its_distribution(example: Path) -> None:
    done = run(example, "-m", "mixbench.experiments.cli", "list", "augmentations")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("  strip "))
    assert "a full-height strip" in lines[at]
    assert lines[at + 1].strip() == "from mixbench-strip 1.2.3"
    assert "alpha=1.0" in lines[at + 2]


def test_the_example_keeps_the_contract(example: Path) -> None:
    done = run(example, "-m", "mixbench.experiments.cli", "check", "strip", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    assert len(found["findings"]) > 30


def sweep(example: Path, runs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = ("--no-track", "--workers", "1", "--device", "cpu", *options)
    command = ("-m", "mixbench.experiments.cli", "sweep", str(runs.parent / "strips.yaml"))
    done = run(example, *command, *words, runs=runs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


UNSEEDED = """
import torch

_draw = Strip.draw

def _draw_with_more(self, draws):
    torch.rand(1)  # of the generator that everybody shares
    return _draw(self, draws)

Strip.draw = _draw_with_more
"""


def test_a_sweep_runs_it_in_workers_and_tells_when_its_code_has_changed(
    example: Path, tmp_path: Path
) -> None:
    spec = """
name: strips
fixed:
  dataset: {name: digits, train_size: 100}
  model: {name: small_cnn, width: 4}
  training: {epochs: 1, batch_size: 50}
  evaluation: {occlusion: {images: 20, fractions: [0.5]}}
grid:
  augmentation: [{name: choice, methods: [mixup, {name: strip, alpha: 0.5}]}]
seeds: [0, 1]
"""
    (tmp_path / "strips.yaml").write_text(spec)
    site = shutil.copytree(example, tmp_path / "site")
    assert "warning" not in sweep(site, tmp_path / "runs", "--no-report").stdout
    results = sorted((tmp_path / "runs").rglob("result.json"))
    made_by = [json.loads(path.read_text())["provenance"] for path in results]
    assert [each["plugins"] for each in made_by] == [{"mixbench-strip": "1.2.3"}] * 2
    (digest,) = {each["plugin_digests"]["mixbench-strip"] for each in made_by}
    config = json.loads((results[0].parent / "config.json").read_text())
    assert config["plugin_digests"] == {"mixbench-strip": digest}
    assert config["config"]["augmentation"]["methods"][1]["alpha"] == 0.5
    # The workers ran this code's copy, and found the package in the environment.
    (copy,) = (tmp_path / "runs" / "strips" / "code").iterdir()
    assert (copy / "mixbench" / "augmentations" / "discovery.py").is_file()
    assert not list(copy.rglob("mixbench_strip.py"))

    shutil.rmtree(results[1].parent)
    with (site / "mixbench_strip.py").open("a") as file:
        file.write(UNSEEDED)
    continued = sweep(site, tmp_path / "runs").stdout
    before_the_runs = continued.partition("strips: 2 runs")[0]
    assert "warning: strip of the plug-in mixbench-strip breaks " in before_the_runs
    assert "warning: the plug-in mixbench-strip has changed: 1 finished run was made" in continued
    now = json.loads(results[1].read_text())["provenance"]["plugin_digests"]["mixbench-strip"]
    assert now != digest
    page = (tmp_path / "runs" / "strips" / "report" / "report.md").read_text()
    first, second = f"1.2.3 (code {digest[:8]})", f"1.2.3 (code {now[:8]})"
    if json.loads(results[0].read_text())["seed"] == 1:
        first, second = second, first
    warning = (
        "choice: the code of the plug-in mixbench-strip changed between the runs: "
        f"1 run with {first} and 1 run with {second}."
    )
    assert warning in page.partition("## Results")[0]
    checked = json.loads((tmp_path / "runs" / "strips" / "contract.json").read_text())["checked"]
    assert [one["code"] for one in checked] == [f"1.2.3 (code {d[:8]})" for d in (digest, now)]
    assert checked[0]["broken"] == []
    assert any("global random state is read" in promise for promise in checked[1]["broken"])
    said = f"strip of the plug-in mixbench-strip, 1.2.3 (code {now[:8]}), breaks "
    assert said in page.partition("## Results")[0]
    assert f"- **Plug-ins**: mixbench-strip {first}; mixbench-strip {second}" in page


def test_without_plugins_provenance_is_what_it_was(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("mixbench.augmentations.discovery.entry_points", lambda **_: [])
    assert augmentations.plugins() == ()
    assert provenance.plugins() == {}
    assert "plugins" not in provenance.of(torch.device("cpu"))


NESTED = """
from dataclasses import dataclass
from typing import ClassVar
from mixbench.augmentations import Method, nested

made = []

@dataclass(frozen=True, kw_only=True)
class First(nested.Nested):
    name: ClassVar[str] = "first"
    summary: ClassVar[str] = "the first of its methods"
    methods: tuple[Method, ...] = nested.methods(("mixup", "cutmix"), "methods")
    def check_combination(self):
        super().check_combination()
        made.append(self)
    def draw(self, draws):
        return self.methods[0].decide(draws)
"""


def test_a_package_may_bring_a_method_made_of_ours(site: Path) -> None:
    add(site, "nesting", {"first": "nesting:First"}, NESTED)
    (found,) = augmentations.plugins()
    assert found.problem == ""
    # Looking for ours must not look at the package again, and again.
    assert len(sys.modules["nesting"].made) == 1
    assert [part.name for part in augmentations.create("first").methods] == ["mixup", "cutmix"]  # type: ignore[attr-defined]


# --- packages that are broken -------------------------------------------------------------------

BROKEN = {
    "does not exist": (
        "other = nowhere:Other",
        "",
        "ModuleNotFoundError: No module named 'nowhere'",
    ),
    "raises": ("other = its_package:Other", "raise OSError('no\\nlicence')", "OSError: no licence"),
    "exits": ("other = its_package:Other", "raise SystemExit('bye')", "SystemExit: bye"),
    "syntax": ("other = its_package:Other", "def (", "SyntaxError"),
    "no such class": ("other = its_package:Other", "x = 1", "has no attribute 'Other'"),
    "not a method": (
        "other = its_package:Other",
        "class Other: name = 'other'",
        "its_package:Other is not a subclass of mixbench.Method",
    ),
    "a function": (
        "other = its_package:Other",
        "def Other(): ...",
        "its_package:Other is not a subclass",
    ),
    "abstract": (
        "other = its_package:Other",
        METHOD.format(name="other").split("    def draw")[0],
        "does not define draw",
    ),
    "another name": (
        "other = its_package:Other",
        METHOD.format(name="another"),
        "has the name 'another'; entry and method must agree",
    ),
    "bad default": (
        "other = its_package:Other",
        METHOD.format(name="other")
        + "    def check_combination(self): raise ValueError('never')\n",
        "can't be created with its defaults, ValueError: never",
    ),
    "check as before 0.2": (
        "other = its_package:Other",
        METHOD.format(name="other") + "    def check(self): raise ValueError('never')\n",
        "its_package:Other has a check(); rename it to check_combination()",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_is_named_and_takes_nothing_down(
    case: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = augmentations.available()
    entry, module, problem = BROKEN[case]
    name, _, value = entry.partition(" = ")
    add(site, "its_package", {name: value}, module)
    add(site, "right", {"right": "right:Other"}, METHOD.format(name="right"))
    assert augmentations.available() == tuple(sorted((*before, "right")))
    (found,) = [plugin for plugin in augmentations.plugins() if plugin.problem]
    assert found.problem.startswith("other of its_package is left out: ")
    assert problem in found.problem
    assert "\n" not in found.problem
    with pytest.raises(ValueError, match="unknown augmentation 'other': other of its_package"):
        augmentations.create("other")
    assert cli.main(["list", "augmentations"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert f"  {found.problem}" in shown
    assert provenance.plugins() == {"right": "0.1"}


def test_a_name_of_ours_is_refused(site: Path) -> None:
    ours = type(augmentations.create("cutmix"))
    add(site, "thief", {"cutmix": "thief:Other"}, METHOD.format(name="cutmix"))
    assert type(augmentations.create("cutmix")) is ours
    (found,) = augmentations.plugins()
    assert found.problem == (
        "cutmix of thief is left out: the name is taken by mixbench.augmentations.methods.cutmix"
    )
    assert augmentations.describe("cutmix").source == ""


def test_two_packages_with_one_name_are_both_refused(site: Path) -> None:
    before = augmentations.available()
    for distribution in ("one", "two"):
        add(site, distribution, {"same": f"{distribution}:Other"}, METHOD.format(name="same"))
    assert augmentations.available() == before
    assert [plugin.problem for plugin in augmentations.plugins()] == [
        f"same of {name} is left out: 2 entries have this name, in one and two"
        for name in ("one", "two")
    ]
