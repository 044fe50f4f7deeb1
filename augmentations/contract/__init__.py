"""The contract of a method: what each must do, whatever its formula, as properties in words.

    from mixbench.augmentations import contract

    for finding in contract.check(partial(augmentations.create, "cutmix")):
        print(finding.verdict, finding.promise, finding.reason)

`mixbench check METHOD` prints this. The tests run every registered method through `PROPERTIES`
with cases of their own. Nothing in here is loaded by `from mixbench import augmentations`.
"""

from __future__ import annotations

from mixbench.augmentations.contract import (  # noqa: F401  (each of them adds its properties)
    batches,
    chances,
    declaration,
    labels,
    numbers,
    plans,
    randomness,
)
from mixbench.augmentations.contract.case import Case
from mixbench.augmentations.contract.checking import CASES, Finding, check
from mixbench.augmentations.contract.promise import PROPERTIES, Broken, Property

__all__ = ["CASES", "PROPERTIES", "Broken", "Case", "Finding", "Property", "check"]
