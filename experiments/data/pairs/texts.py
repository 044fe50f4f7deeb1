"""Texts as counts of hashed words and parts of words, which a small encoder takes."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

FEATURES = 2048
"""How many counts a text has."""
_PARTS = (3, 4)


def counts_of(texts: Sequence[str], features: int = FEATURES) -> NDArray[np.float32]:
    """Count the words of each text, and their parts of three and four letters: (N, features).

    No part is of two words, so the counts of two texts, one after the other, are the sums of
    theirs. Upper and lower case are the same; the hash is the same on every machine.

    Examples:
        >>> one, other, both = counts_of(["red Apple", "fox", "fox red apple"])
        >>> bool((one + other == both).all()), int(one.sum())
        (True, 11)
    """
    counts = np.zeros((len(texts), features), np.float32)
    for row, text in zip(counts, texts, strict=True):
        for piece in _pieces(text):
            row[zlib.crc32(piece.encode()) % features] += 1
    return counts


def words_of(text: str) -> list[str]:
    """Return the words of a text: its runs of letters and digits, in lower case.

    Examples:
        >>> words_of("Cat-face, No. 2")
        ['cat', 'face', 'no', '2']
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(one if one.isalnum() else " " for one in plain).split()


def _pieces(text: str) -> Iterable[str]:
    for word in words_of(text):
        yield word
        closed = f"<{word}>"
        for size in _PARTS:
            yield from (closed[at : at + size] for at in range(len(closed) - size + 1))
