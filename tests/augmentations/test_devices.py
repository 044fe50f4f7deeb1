"""Whether what is parametrised by `DEVICES` has run on a GPU too."""

from __future__ import annotations

import pytest

from tests.support.oracles import DEVICES


def test_a_gpu_is_among_the_devices() -> None:
    if "cuda" not in DEVICES:
        pytest.skip("no CUDA device: all that is parametrised by `DEVICES` ran on the CPU alone")
    assert DEVICES == ["cpu", "cuda"]
