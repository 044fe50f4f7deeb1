"""The words of messages: counts, durations, first lines."""

import pytest

from mixbench.experiments.text import duration, first_line, plural


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
