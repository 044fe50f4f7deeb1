"""What counts as a number in JSON that others wrote."""

from __future__ import annotations

import math
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Is it a finite number?"""
    return isinstance(value, int | float) and math.isfinite(value)
