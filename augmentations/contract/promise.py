"""Properties: functions that raise `Broken` with one sentence if a case breaks a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mixbench.augmentations.checks import describe

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.contract.case import Case
    from mixbench.augmentations.method import Method


class Broken(AssertionError):
    """A method breaks a promise; the message says in one sentence how."""


@dataclass(frozen=True)
class Property:
    """One promise of the contract; call it with a `Case`.

    Attributes:
        promise: The sentence that must be true.
        function: Raises `Broken` if it is not.
        once: Whether it chooses its own batches, so that only a case's mode and device matter.
        label_rules: The label rules of the methods that promise it; None for all methods.
        chosen_by_images: Whether methods that need images promise it too.
        device: The only device on which it can be checked; None for any.
    """

    promise: str
    function: Callable[[Case], None]
    once: bool
    label_rules: tuple[str, ...] | None
    chosen_by_images: bool
    device: str | None

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.function.__name__

    def applies(self, method: Method) -> bool:
        """Tell whether this method makes the promise."""
        by_rule = self.label_rules is None or method.label_rule in self.label_rules
        return by_rule and (self.chosen_by_images or "images" not in method.needs)

    def __call__(self, case: Case) -> None:
        self.function(case)


PROPERTIES: dict[str, Property] = {}
"""All properties by the name of their function, in the order in which they are shown."""

Function = Callable[["Case"], None]


def promise(
    text: str,
    *,
    once: bool = False,
    label_rules: tuple[str, ...] | None = None,
    chosen_by_images: bool = True,
    device: str | None = None,
) -> Callable[[Function], Function]:
    """Add a function to the contract under the sentence `text`; see `Property`."""

    def add(function: Function) -> Function:
        function.__doc__ = function.__doc__ or f"{text}."
        PROPERTIES[function.__name__] = Property(
            text, function, once, label_rules, chosen_by_images, device
        )
        return function

    return add


def expect(condition: bool, sentence: str) -> None:
    """Raise `Broken` with `sentence` unless `condition`."""
    if not condition:
        raise Broken(sentence)


def expect_equal(actual: Tensor, expected: Tensor, sentence: str) -> None:
    """Raise `Broken` unless the tensors are equal bit for bit in shape, dtype and values."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise Broken(f"{sentence}: {describe(actual)} instead of {describe(expected)}")
    if not torch.equal(actual, expected):
        differs = int((actual != expected).sum())
        raise Broken(f"{sentence}: {differs} of {actual.numel()} values differ")


def expect_close(
    actual: Tensor, expected: Tensor, sentence: str, *, atol: float = 1e-6, rtol: float = 0.0
) -> None:
    """Raise `Broken` unless the tensors agree in shape and within the tolerances."""
    if actual.shape != expected.shape:
        raise Broken(f"{sentence}: {describe(actual)} instead of {describe(expected)}")
    actual, expected = actual.double().cpu(), expected.double().cpu()
    if not torch.allclose(actual, expected, atol=atol, rtol=rtol):
        worst = int((actual - expected).abs().nan_to_num(float("inf")).argmax())
        raise Broken(
            f"{sentence}: {float(actual.flatten()[worst]):.6g} instead of "
            f"{float(expected.flatten()[worst]):.6g}"
        )
