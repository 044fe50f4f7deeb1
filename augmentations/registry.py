"""The registry: every method in `augmentations/methods/`, by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import augmentations.methods
from augmentations.method import Method, Paper
from augmentations.parameters import nearest, rules


@dataclass(frozen=True)
class ParameterInfo:
    """A parameter as `mixbench list` shows it."""

    name: str
    default: Any
    allowed: str
    doc: str


@dataclass(frozen=True)
class MethodInfo:
    """A method as `mixbench list` shows it."""

    name: str
    summary: str
    paper: Paper | None
    parameters: tuple[ParameterInfo, ...]


@cache
def _methods() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(augmentations.methods.__path__):
        module = importlib.import_module(f"augmentations.methods.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if not issubclass(member, Method) or member.__module__ != module.__name__:
                continue
            if member.name in found:
                raise ValueError(
                    f"two augmentations are named {member.name!r}: "
                    f"{found[member.name].__module__} and {member.__module__}"
                )
            found[member.name] = member
    return dict(sorted(found.items()))


def _lookup(name: Any) -> type[Method]:
    methods = _methods()
    if not isinstance(name, str) or name not in methods:
        raise ValueError(
            f"unknown augmentation {name!r}{nearest(name, methods)} Available: {', '.join(methods)}"
        )
    return methods[name]


def available() -> tuple[str, ...]:
    """The names of all registered methods, sorted."""
    return tuple(_methods())


def create(name: str, **parameters: Any) -> Method:
    """The method `name` with `parameters`; those not given have the original paper's values.

    Raises ValueError for an unknown name, an unknown parameter (naming the valid ones and the
    nearest match) or a value that is not allowed.
    """
    method = _lookup(name)
    valid = rules(method)
    for key in parameters:
        if key not in valid:
            raise ValueError(
                f"{name} has no parameter {key!r}{nearest(key, valid)} "
                f"Its parameters: {', '.join(valid)}"
            )
    return method(**parameters)


def resolve(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a method, defaults filled in, canonical types; ValueError as `create`."""
    return asdict(create(name, **parameters))


def describe(name: str) -> MethodInfo:
    """The summary, paper and parameters of method `name`; ValueError if there is none."""
    method = _lookup(name)
    parameters = tuple(
        ParameterInfo(key, default, rule.allowed(), rule.doc)
        for key, (rule, default) in rules(method).items()
    )
    return MethodInfo(name, method.summary, method.paper, parameters)
