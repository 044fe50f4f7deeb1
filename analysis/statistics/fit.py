"""Whether a training without mixing has learned enough for mixing to be judged."""

from __future__ import annotations

FITTED = 0.8
"""A network that names fewer of its training images is under-fitted: mixing makes that worse."""


def is_under_fitted(train_accuracy: float) -> bool:
    """Are too few of the clean training images learned?

    Examples:
        >>> is_under_fitted(0.41), is_under_fitted(0.8)
        (True, False)
    """
    return train_accuracy < FITTED
