import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from mixbench.experiments.config import datasets, models
from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.config.descriptions import read_descriptions
from mixbench.experiments.data.by_name import named_dataset
from mixbench.experiments.data.named import NamedDataset

INFO = """
import a_package_that_nobody_has

INFO = DatasetInfo(
    name={name!r}, title="T", channels=1, size=8, classes=2, train=30, test=10,
    flip=False, crop_padding=0, source={source},
)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / f"sets_of_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    return folder


def test_a_description_read_is_the_one_in_the_file() -> None:
    for name in datasets.names():
        assert datasets.info(name) == importlib.import_module(f"{datasets.SETS}.{name}").INFO
        assert isinstance(named_dataset(name), NamedDataset)
    for name, info in models.our_networks().items():
        assert info == importlib.import_module(f"{models.NETWORKS}.{name}").INFO


def test_a_new_file_is_enough_and_is_not_imported(package: Path) -> None:
    (package / "second.py").write_text(INFO.format(name="second", source="'x'"))
    (package / "first.py").write_text(INFO.format(name="first", source="'x'"))
    descriptions = read_descriptions(package.name, DatasetInfo)
    assert list(descriptions) == ["first", "second"]
    assert descriptions["second"] == DatasetInfo(
        name="second",
        title="T",
        channels=1,
        size=8,
        classes=2,
        train=30,
        test=10,
        flip=False,
        crop_padding=0,
        source="x",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"bad: expected INFO = DatasetInfo\(\.\.\.\)"),
        ("INFO = 3", "bad: expected INFO = "),
        (INFO.format(name="good", source="'x'"), "bad: INFO has the name 'good', expected 'bad'"),
        (INFO.format(name="bad", source="str(3)"), "bad: INFO must be made of literals"),
    ],
)
def test_a_file_without_a_description(package: Path, text: str, message: str) -> None:
    (package / "bad.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_descriptions(package.name, DatasetInfo)


def test_what_is_known_of_data_sets_and_networks_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\n"
        "from mixbench.experiments.config import datasets, models\n"
        "datasets.info('digits'), models.our_networks()\n"
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
