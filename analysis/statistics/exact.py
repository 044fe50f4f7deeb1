"""The exact sign-flip test: a check of the t test that does not assume normal differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

_EXACT = 14
"""Up to so many pairs all sign flips are counted; above, a random sample of them."""
_SAMPLED = 20_000


def sign_flip(differences: Sequence[float]) -> float | None:
    """Return the two-sided p value of paired differences under flips of their signs.

    If the two cells are equal, every difference is as likely with the other sign. p is the share
    of the 2ⁿ sign patterns whose mean is at least as far from 0 as the observed one.

    Args:
        differences: One per replicate, in any unit.

    Returns:
        p, never below `floor(n)`; None without a difference.

    Examples:
        >>> sign_flip([0.4, 0.1, 0.9, 0.3, 0.2])
        0.0625
    """
    values = np.asarray(differences, dtype=float)
    if len(values) == 0:
        return None
    if len(values) == 1:
        return 1.0
    result = stats.permutation_test(
        (values,),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf if len(values) <= _EXACT else _SAMPLED,
        vectorized=True,
        rng=0,
    )
    return float(result.pvalue)


def floor(n: int) -> float:
    """Return the smallest p that n pairs can have, such as 0.0625 with 5.

    Examples:
        >>> [floor(n) for n in (3, 5, 6)]
        [0.25, 0.0625, 0.03125]
    """
    return min(1.0, 2.0 / 2**n) if n > 0 else 1.0
