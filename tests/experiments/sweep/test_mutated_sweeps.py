"""Shipped sweeps with mistakes in them: each is refused in one line, or expands to valid runs."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from mixbench.experiments import cli
from mixbench.experiments.cli import names
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep import load
from mixbench.experiments.text import one_line
from tests.support.mutations import mutated

FILES = 300
SOURCES = ("alpha", "combination", "data_fraction", "demo_digits", "staging", "transfer")
SLOWEST = 20.0
"""Seconds of CPU for one file: timm may have to be imported."""


def test_mutated_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [load.shipped()[name].read_text(encoding="utf-8") for name in SOURCES]
    path = tmp_path / "mutated.yaml"
    accepted = refused = 0
    for seed in range(FILES):
        state = random.Random(seed)
        path.write_bytes(mutated(state.choice(sources), state))
        began = time.process_time()
        try:
            sweep = names.any_sweep(str(path), [], None)
        except UserError as error:
            refused += 1
            line = one_line(str(error))
            assert line.isprintable(), seed
            assert 10 < len(line) < 2000, seed
            if refused % 40 == 0:
                assert cli.main(["plan", str(path)]) == 2, seed
                assert capsys.readouterr().err == f"mixbench: {line}\n"
            continue
        finally:
            assert time.process_time() - began < SLOWEST, seed
        accepted += 1
        rows = json.loads(json.dumps([*sweep.rows()], allow_nan=False))
        json.dumps(sweep.spec, allow_nan=False)
        assert len({run_key for run_key, _, _ in rows}) == len(rows), seed
        run_key, cell_key, config = state.choice(rows)
        assert (parse(config).run_key, parse(config).cell_key) == (run_key, cell_key), seed
    assert accepted > FILES / 10
    assert refused > FILES / 2
