"""The words of messages: counts, durations, first lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mixbench.experiments.text import duration, first_line, one_line, plural


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 5 min"),
        (47 * 3600, "47 h 0 min"),
        (76 * 3600 + 60, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plurals() -> None:
    assert [plural(count, "run") for count in (1, 0, 2000)] == ["1 run", "0 runs", "2,000 runs"]
    assert plural(1, "entry", "entries") == "1 entry"
    assert plural(2, "entry", "entries") == "2 entries"


def test_the_first_line_of_an_error_says_something() -> None:
    assert first_line(ValueError("\nlr: got 0\nmore")) == "lr: got 0"
    assert first_line("one\ntwo") == "one"
    assert first_line(ValueError()) == "ValueError"
    assert first_line("") == first_line(None) == ""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_terminals_that_are_not_utf_8(encoding: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "MIXBENCH_RUNS": str(tmp_path)}
    code = (
        "import sys\nfrom mixbench.experiments import cli\n"
        "for words in (['list'], ['status'], ['list', 'augmentations']):\n"
        "    assert cli.main(words) == 0\n"
        "print('α=0.2 ±1 −2 “ä” 漢')\n"
        "sys.exit(cli.main(['list', 'α']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 2, done.stderr
    shown = {"latin-1": 'alpha=0.2 ±1 -2 "ä" \\u6f22', "ascii": 'alpha=0.2 +/-1 -2 "a" \\u6f22'}
    lines = done.stdout.decode(encoding).splitlines()
    assert lines[-1] == shown[encoding]
    assert any("lambda ~ Beta(alpha, alpha)" in line for line in lines)
    (line,) = done.stderr.decode(encoding).splitlines()
    assert "'alpha' is not one of" in line


def test_messages_are_one_line_of_readable_length() -> None:
    assert one_line("a\n  b\x1b[31m\tc") == "a b\\x1b[31m c"
    long = one_line(f"begin {'x' * 9000} end")
    assert len(long) < 1500 and long.startswith("begin") and long.endswith("end")
