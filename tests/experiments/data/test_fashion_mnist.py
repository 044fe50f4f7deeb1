import functools
import gzip
import http.server
import shutil
import struct
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import fetch
from mixbench.experiments.data.load import load
from mixbench.experiments.data.sets import fashion_mnist
from mixbench.experiments.errors import UserError

HERE = Path(fashion_mnist.DATASET.find() or "")
pytestmark = pytest.mark.skipif(Path() == HERE, reason="Fashion-MNIST is not on this machine")
LABELS = "t10k-labels-idx1-ubyte"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine on which there is no Fashion-MNIST yet, and no network."""
    from torchvision.datasets import FashionMNIST

    monkeypatch.delenv("MIXBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("PATH", str(tmp_path / "no-commands"))
    return tmp_path


def copy(folder, unpacked=False):
    folder.mkdir(parents=True)
    for name in fashion_mnist.CONTENTS:
        packed = fashion_mnist._file(HERE, name)
        raw = packed.read_bytes()
        if unpacked:
            raw = gzip.decompress(raw) if packed.suffix == ".gz" else raw
            (folder / name).write_bytes(raw)
        else:
            shutil.copy(packed, folder / packed.name)
    return folder


def as_published(name):
    """The .gz file as its authors made it, whose header has a time and a name."""
    raw = fashion_mnist._file(HERE, name).read_bytes()
    if raw[3] & 8:
        return raw
    time = 1504176627 - 21 * name.startswith("train")
    return (
        raw[:3] + b"\x08" + struct.pack("<I", time) + raw[8:10] + name.encode() + b"\0" + raw[10:]
    )


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("below", "unpacked"), [("", False), ("fashion-mnist", True), ("FashionMNIST/raw", False)]
)
def test_found_in_mixbench_data(nowhere, monkeypatch, below, unpacked):
    folder = copy(nowhere / "mine" / below, unpacked)
    assert not fetch.available_offline("fashion_mnist")
    monkeypatch.setenv("MIXBENCH_DATA", str(nowhere / "mine"))
    assert fetch.available_offline("fashion_mnist")
    assert fetch.ensure("fashion_mnist") == str(folder)
    # What the user names comes before what the system has.
    copy(nowhere / "system")
    assert fashion_mnist.DATASET.find() == str(folder)
    monkeypatch.delenv("MIXBENCH_DATA")
    assert fashion_mnist.DATASET.find() == str(nowhere / "system")


def test_the_sums_are_those_that_torchvision_publishes():
    from torchvision.datasets import FashionMNIST

    assert {f"{name}.gz": md5 for name, md5 in fashion_mnist.PUBLISHED.items()} == dict(
        FashionMNIST.resources
    )
    # And the contents we expect are the contents of those very files.
    for name, published in fashion_mnist.PUBLISHED.items():
        raw = as_published(name)
        assert fashion_mnist._md5(raw) == published
        assert fashion_mnist._md5(gzip.decompress(raw)) == fashion_mnist.CONTENTS[name]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "rewritten", "empty", "unpacked"])
def test_a_corrupt_file_is_named_with_both_sums(nowhere, monkeypatch, damage):
    folder = copy(nowhere / "mine", unpacked=damage == "unpacked")
    monkeypatch.setenv("MIXBENCH_DATA", str(folder))
    path = folder / (LABELS if damage == "unpacked" else f"{LABELS}.gz")
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle] ^= 1
    harmed = {
        "truncated": raw[:middle],
        "flipped": raw,
        "rewritten": gzip.compress(b"other labels"),
        "empty": b"",
        "unpacked": raw,
    }[damage]
    path.write_bytes(harmed)
    before = sorted(files_below(nowhere))
    with pytest.raises(UserError) as caught:
        load(DatasetConfig(name="fashion_mnist"))
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    expected = {fashion_mnist.PUBLISHED[LABELS], fashion_mnist.CONTENTS[LABELS]}
    assert any(f"expected {md5}" in message for md5 in expected)
    if damage != "rewritten":
        assert fashion_mnist._md5(bytes(harmed)) in message
    assert sorted(files_below(nowhere)) == before  # what the user named is not ours to remove


def test_a_corrupt_file_that_was_fetched_is_removed(nowhere):
    folder = copy(nowhere / "cache" / "mixbench" / "data" / "fashion-mnist")
    path = folder / f"{LABELS}.gz"
    path.write_bytes(b"half of it")
    with pytest.raises(UserError, match="has been removed, the next run fetches it again"):
        load(DatasetConfig(name="fashion_mnist"))
    assert not path.exists() and fashion_mnist.DATASET.find() is None


def test_without_a_way_it_says_what_to_do(nowhere):
    with pytest.raises(UserError) as caught:
        load(DatasetConfig(name="fashion_mnist"))
    message = str(caught.value)
    assert "\n" not in message
    assert "dataset-fashion-mnist" in message and "MIXBENCH_DATA" in message
    assert not (nowhere / "cache").exists()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server with files as published, which torchvision downloads from."""
    from torchvision.datasets import FashionMNIST

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    shelf = tmp_path / "shelf"
    shelf.mkdir()
    handler = functools.partial(Quiet, directory=str(shelf))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{web.server_port}/"])
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield shelf
        web.shutdown()


def test_downloaded_and_kept(nowhere, server):
    for name in fashion_mnist.CONTENTS:
        (server / f"{name}.gz").write_bytes(as_published(name))
    dataset = load(DatasetConfig(name="fashion_mnist", train_size=100))
    kept = nowhere / "cache" / "mixbench" / "data" / "fashion-mnist"
    assert dataset.source == str(kept) and fashion_mnist.DATASET.find() == str(kept)
    assert len(files_below(nowhere / "cache")) == 4
    expected = gzip.decompress(as_published(LABELS))[8:]
    assert dataset.test.labels.tolist() == list(expected)


def test_a_corrupt_download_leaves_nothing(nowhere, server):
    for name in fashion_mnist.CONTENTS:
        (server / f"{name}.gz").write_bytes(b"a page that asks you to log in")
    with pytest.raises(UserError) as caught:
        load(DatasetConfig(name="fashion_mnist"))
    message = str(caught.value)
    assert "the downloaded train-images-idx3-ubyte.gz was corrupt" in message
    assert fashion_mnist.PUBLISHED["train-images-idx3-ubyte"] in message
    assert "(removed)" in message and "\n" not in message
    assert not (nowhere / "cache").exists()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not a Debian-like system")
@pytest.mark.parametrize("sound", [True, False])
def test_unpacked_from_the_package(tmp_path, monkeypatch, sound):
    # A real package and the real dpkg-deb; the apt-get here is one that has only this package,
    # and only once it has been given lists.
    monkeypatch.delenv("MIXBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(fashion_mnist, "_folders", lambda: [kept])
    kept = tmp_path / "cache" / "mixbench" / "data" / "fashion-mnist"

    tree = tmp_path / "tree"
    folder = copy(tree / fashion_mnist.SYSTEM_FOLDER.relative_to("/"))
    for name in fashion_mnist.CONTENTS:
        if (folder / name).exists():
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes(), 1))
    if not sound:
        (folder / f"{LABELS}.gz").write_bytes(b"not this")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {fashion_mnist.PACKAGE}\nVersion: 1\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: images\n"
    )
    package = tmp_path / f"{fashion_mnist.PACKAGE}_1_all.deb"
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, package], check=True, capture_output=True)
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "apt-get").write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"*Dir::State::Lists*download*) cp {package} . ;;\n"
        "*Dir::State::Lists*update*) ;;\n"
        "*) echo 'E: Unable to locate package' >&2; exit 100 ;;\n"
        "esac\n"
    )
    (commands / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")

    if sound:
        assert fetch.ensure("fashion_mnist") == str(kept)
        assert len(files_below(tmp_path / "cache")) == 4
    else:
        with pytest.raises(UserError, match=rf"the fetched {LABELS}\.gz is corrupt.*\(removed\)"):
            fetch.ensure("fashion_mnist")
        assert not (tmp_path / "cache").exists()


def test_parse_idx_by_hand():
    raw = b"\0\0\x08\x02" + struct.pack(">II", 2, 3) + bytes([1, 2, 3, 4, 5, 6])
    assert np.array_equal(fashion_mnist.parse_idx(raw), [[1, 2, 3], [4, 5, 6]])
    for broken in (b"", b"\0\0\x0d\x01", raw[:-1]):
        with pytest.raises(ValueError, match=r"IDX|reshape|buffer"):
            fashion_mnist.parse_idx(broken)
