"""The base class of methods made of other methods, and how these are declared and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any, ClassVar, Self

from mixbench.augmentations.method import Home, Method
from mixbench.augmentations.registry import create

EXAMPLE = "{name: mixup, alpha: 0.8}"


@dataclass(frozen=True)
class MethodsRule:
    """A list of at least one method, each a name, a mapping with a `name`, or a `Method`."""

    holds_methods: ClassVar[bool] = True

    doc: str

    def allowed(self) -> str:
        """Describe what is allowed, for messages and listings."""
        return f"a list of methods, each a name or a mapping such as {EXAMPLE}"

    def parse(self, value: Any) -> tuple[Method, ...]:
        """Return the methods; ValueError with what was given and what is allowed."""
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"got {value!r}, expected {self.allowed()}")
        methods = []
        for number, spec in enumerate(value):
            try:
                methods.append(_create(spec))
            except ValueError as error:
                raise ValueError(f"method {number + 1}: {error}") from None
        return tuple(methods)

    def to_json(self, value: Any) -> list[Any]:
        """Return checked methods as JSON values, with all parameters."""
        return [{"name": method.name, **method.parameters_as_json()} for method in value]


def methods(default: tuple[str | dict[str, Any], ...], doc: str) -> Any:
    """Declare the parameter `methods` of a `Nested` method: names, or mappings with a `name`."""
    return dataclasses.field(default=default, metadata={"rule": MethodsRule(doc)})


class Nested(Method):
    """The base class of methods made of other methods.

    A subclass declares the parameter `methods` with the function of that name in this module.
    `per_sample` makes all of the methods draw per sample. `pairing` applies to those that are not
    given one. `prob` is for the whole; each method also has its own.
    """

    methods: tuple[Method, ...]

    def __post_init__(self) -> None:
        given: Any = self.methods
        if isinstance(given, list | tuple):
            given = [_with_pairing(spec, self.pairing) for spec in given]
        object.__setattr__(self, "methods", given)
        super().__post_init__()

    def check_combination(self) -> None:
        drawn = tuple(
            replace(method, per_sample=method.per_sample or self.per_sample)
            for method in self.methods
        )
        rules = {method.label_rule for method in drawn}
        # Set on the instance, as they depend on these methods.
        for name, value in (
            ("methods", drawn),
            ("label_rule", rules.pop() if len(rules) == 1 else "declared"),
            ("asks", frozenset(ask for method in drawn for ask in method.asks)),
            ("passes", float(sum(method.passes for method in drawn))),
        ):
            object.__setattr__(self, name, value)
        self.also_needs(*(need for method in drawn for need in method.needs))

    def varied(self) -> Self:
        hooks = any(method.has_loss or "bank" in method.needs for method in self.methods)
        return self if hooks else super().varied()

    def check_size(self, height: int, width: int) -> None:
        for method in self.methods:
            method.check_size(height, width)

    @property
    def has_loss(self) -> bool:
        return any(method.has_loss for method in self.methods)

    @property
    def home(self) -> Home | None:
        homes = [method.home for method in self.methods if method.prob > 0]
        known = [home for home in homes if home is not None]
        return reduce(or_, known, Home()) if len(known) == len(homes) else None

    @property
    def deepest(self) -> int:
        return max(method.deepest for method in self.methods)


def refuse_hooks(mix: Nested, expected: str) -> None:
    """ValueError if one of the methods has a loss of its own, or needs earlier batches."""
    for method in mix.methods:
        if method.has_loss or "bank" in method.needs:
            raise ValueError(
                f"{mix.name}.{expected}, as {method.name} "
                f"{'needs earlier batches' if 'bank' in method.needs else 'has a loss of its own'}"
            )


def _with_pairing(spec: Any, pairing: str) -> Any:
    if isinstance(spec, str):
        spec = {"name": spec}
    return {"pairing": pairing, **spec} if isinstance(spec, Mapping) else spec


def _create(spec: Any) -> Method:
    if isinstance(spec, Method):
        return spec
    if isinstance(spec, str):
        return create(spec)
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise ValueError(f"got {spec!r}, expected a name or a mapping such as {EXAMPLE}")
    return create(spec["name"], **{str(key): spec[key] for key in spec if key != "name"})
