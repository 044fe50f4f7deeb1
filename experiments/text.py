"""Words for messages: counts with their noun, durations, the first line of an error."""

from __future__ import annotations


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Such as "1 run" and "2,000 runs"; `nouns` where the plural does not end in just an "s"."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def duration(seconds: float) -> str:
    """Such as "45 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def first_line(text: str | BaseException | None) -> str:
    """The first line of a text, or of an error's message; an error without one gives its type."""
    lines = str(text or "").strip().splitlines()
    if lines:
        return lines[0]
    return type(text).__name__ if isinstance(text, BaseException) else ""
