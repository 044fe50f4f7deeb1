"""The contract of a method: properties that every method must have, whatever its formula.

    from mixbench.augmentations import contract

    for finding in contract.check_method(partial(mixbench.create, "cutmix")):
        print(finding.verdict, finding.promise, finding.reason)

`mixbench check METHOD` prints this. The tests run every registered method through `PROPERTIES`
with cases of their own. `import mixbench` loads nothing of this package.
"""

from __future__ import annotations

from mixbench.augmentations.contract import (  # noqa: F401  (each adds its properties)
    batches,
    chances,
    declaration,
    labels,
    losses,
    numbers,
    plans,
    randomness,
)
from mixbench.augmentations.contract.case import Case
from mixbench.augmentations.contract.promise import PROPERTIES, Broken, Property
from mixbench.augmentations.contract.runner import CASES, Finding, check_method

__all__ = ["CASES", "PROPERTIES", "Broken", "Case", "Finding", "Property", "check_method"]
