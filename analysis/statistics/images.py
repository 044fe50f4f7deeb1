"""Test images as a random factor crossed with replicates."""

from __future__ import annotations

from dataclasses import dataclass

from mixbench.analysis.statistics.max_t import Array


@dataclass(frozen=True)
class Crossed:
    """A mean over replicates and test images, with the standard errors that each brings.

    Attributes:
        mean: In the unit of the values.
        replicates: The standard error over replicates, with these test images.
        images: The standard error over test images, with these replicates.
        both: With new replicates and new test images.
    """

    mean: float
    replicates: float
    images: float
    both: float


def crossed(values: Array) -> Crossed:
    """Estimate a mean over replicates and test images that are both samples.

    value = mean + replicate + image + rest. The variance of the mean is
    (MS_replicate + MS_image - MS_rest) / (R · N), from the mean squares of the two-way layout
    (Cornfield and Tukey, "Average values of mean squares in factorials", Annals of Mathematical
    Statistics 27, 1956).

    Args:
        values: (replicates, images), such as the correctness of one method minus that of another.
            At least two of each.

    Raises:
        ValueError: Fewer than two replicates or images.

    Examples:
        >>> import numpy as np
        >>> luck = crossed(np.array([[1.0, 0, 1, 1], [1, 0, 1, 0], [1, 0, 1, 1]]))
        >>> round(luck.mean, 2), round(luck.replicates, 2), round(luck.images, 2)
        (0.67, 0.08, 0.24)
    """
    rows, columns = values.shape
    if rows < 2 or columns < 2:
        raise ValueError("two replicates and two images are needed")
    mean = float(values.mean())
    of_rows, of_columns = values.mean(axis=1), values.mean(axis=0)
    rest = values - of_rows[:, None] - of_columns + mean
    ms_rows = columns * float(of_rows.var(ddof=1))
    ms_columns = rows * float(of_columns.var(ddof=1))
    ms_rest = float((rest**2).sum()) / ((rows - 1) * (columns - 1))
    size = rows * columns
    both = max(ms_rows + ms_columns - ms_rest, ms_rows, ms_columns)
    return Crossed(mean, (ms_rows / size) ** 0.5, (ms_columns / size) ** 0.5, (both / size) ** 0.5)
