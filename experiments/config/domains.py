"""Domains of the same classes: which there are, and what a run on some of them must say.

    dataset: {name: domains, domains: [mnist_5k, fonts], target: digits}

trains on the first two and tests on the third. `mnist_5k@30` is turned by 30 degrees,
anticlockwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from mixbench.experiments.config.schema import DatasetConfig

NAME = "domains"
CLASSES = {"digits": "digits", "mnist_5k": "digits", "fonts": "digits", "fashion_mnist": "items"}
"""What each domain shows; domains of one run must show the same."""


def parts_of(domain: str) -> tuple[str, int]:
    """Return the name of a domain and its angle in degrees; UserError where there is none such.

    Examples:
        >>> parts_of("mnist_5k@30"), parts_of("fonts")
        (('mnist_5k', 30), ('fonts', 0))
    """
    name, turned, angle = domain.partition("@")
    if name not in CLASSES:
        raise UserError(
            f"unknown domain {domain!r}{did_you_mean(name, CLASSES)}; valid: {', '.join(CLASSES)}, "
            "each also turned, such as mnist_5k@30"
        )
    if not turned:
        return name, 0
    try:
        degrees = int(angle)
    except ValueError:
        degrees = 360
    if not -180 < degrees <= 180:
        raise UserError(
            f"domain {domain!r}: got the angle {angle!r}, expected whole degrees from -179 to 180"
        )
    return name, degrees


def check_domains(config: DatasetConfig) -> None:
    """Raise ValueError or UserError for domains that are missing, named twice, or don't fit."""
    given = {"dataset.domains": config.domains, "dataset.target": config.target}
    if config.name != NAME:
        for field, value in given.items():
            if value is not None:
                raise ValueError(f"{field}: is for dataset.name: {NAME}, got {config.name}")
        return
    for field, value in given.items():
        if not value:
            raise ValueError(
                f"{field}: dataset.name: {NAME} needs domains to train on and the target to test "
                "on, such as domains: [mnist_5k, fonts], target: digits"
            )
    sources, target = config.domains or (), str(config.target)
    seen: set[tuple[str, int]] = set()
    shown: dict[str, str] = {}
    for domain in (*sources, target):
        parts = parts_of(domain)
        if parts in seen:
            raise ValueError(
                f"dataset.domains: {domain} is named twice, as a domain to train on or the target; "
                "expected each once"
            )
        seen.add(parts)
        shown[CLASSES[parts[0]]] = domain
    if len(shown) > 1:
        raise ValueError(
            f"dataset.domains: {' and '.join(shown.values())} show other classes; the domains of a "
            "run must show the same"
        )
