"""What a method's page in the documentation says: its paper, when to use it, suggested values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Paper:
    """Where a method comes from.

    Attributes:
        authors: The authors, such as "Yun et al.".
        year: The year of the first version.
        title: The title.
        arxiv: The number on arXiv, such as "1905.04899"; empty for a paper that is not there.
        url: Its address, without https://, if it is not on arXiv.
    """

    authors: str
    year: int
    title: str
    arxiv: str = ""
    url: str = ""

    def __str__(self) -> str:
        place = f"arXiv:{self.arxiv}" if self.arxiv else self.url
        return f"{self.authors} {self.year}, {self.title} ({place})"


@dataclass(frozen=True)
class Card:
    """When to use a method, and with which values.

    Attributes:
        use: What it is for, and what speaks against it, in one to three sentences.
        values: Suggested values by where they are from; {} stands for the defaults.

    Examples:
        >>> card = Card("On small data.", {"Zhang et al., CIFAR": {"alpha": 1.0}})
        >>> card.values["Zhang et al., CIFAR"]
        {'alpha': 1.0}
    """

    use: str
    values: Mapping[str, Mapping[str, Any]]
