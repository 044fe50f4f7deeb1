"""Words for messages: counts, durations, first lines; and terminals that lack characters."""

from __future__ import annotations

import codecs
import sys
import unicodedata


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


_ERRORS = "mixbench"
_IN_ASCII = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "λ": "lambda", "σ": "sigma", "ε": "epsilon"},
    **{"±": "+/-", "×": "x", "−": "-", "≤": "<=", "≥": ">=", "≈": "~", "→": "->", "·": "*"},
    **{"–": "-", "—": "-", "…": "...", "“": '"', "”": '"', "„": '"', "’": "'", "‘": "'"},
    **{"━": "-", "─": "-", "│": "|", "╸": "-", "╺": "-", "•": "*", "█": "#", "░": ".", "✓": "ok"},
    **{"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "AE", "µ": "u"},
}


def show_every_character() -> None:
    """Have standard output and error replace what their encoding lacks by something readable."""
    codecs.register_error(_ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        encoding = getattr(stream, "encoding", None) or "ascii"
        if reconfigure is not None and codecs.lookup(encoding).name != "utf-8":
            reconfigure(errors=_ERRORS)
        elif reconfigure is not None and stream.errors == "strict":
            # Names of files may hold bytes that are no text.
            reconfigure(errors="backslashreplace")


def one_line(message: str, longest: int = 1500) -> str:
    """Return a message without line ends and control characters, its middle left out if long."""
    text = " ".join(message.split())
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]} [...] {text[-longest // 4 :]}"
    return text


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_readable, text)), error.end


def _readable(character: str) -> str:
    if character in _IN_ASCII:
        return _IN_ASCII[character]
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return base or f"\\u{ord(character):04x}"
