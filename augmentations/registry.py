"""The registry: every method in `augmentations/methods/`, and those of other packages, by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import mixbench.augmentations.methods
from mixbench.augmentations.discovery import Plugin, discover
from mixbench.augmentations.method import Method, Paper
from mixbench.augmentations.nested import MethodsRule
from mixbench.augmentations.parameters import nearest, rules


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
    source: str = ""
    """The distribution and version that it comes from, where that is not mixbench."""


@cache
def _own() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(mixbench.augmentations.methods.__path__):
        module = importlib.import_module(f"mixbench.augmentations.methods.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if not issubclass(member, Method) or member.__module__ != module.__name__:
                continue
            if member.name in found:
                raise ValueError(
                    f"two augmentations are named {member.name!r}: "
                    f"{found[member.name].__module__} and {member.__module__}"
                )
            found[member.name] = member
    return found


@cache
def plugins() -> tuple[Plugin, ...]:
    """Methods that other installed packages register, those that can't be used included."""
    return discover(_own())


@cache
def _methods() -> dict[str, type[Method]]:
    others = {plugin.name: plugin.method for plugin in plugins() if plugin.method is not None}
    return dict(sorted({**_own(), **others}.items()))


def _lookup(name: Any) -> type[Method]:
    if isinstance(name, str) and name in _own():
        # Nobody can take the name, so no other package is asked: one that is being looked at may
        # itself be made of our methods.
        return _own()[name]
    methods = _methods()
    for plugin in plugins():
        if plugin.name == name and name not in methods:
            raise ValueError(f"unknown augmentation {name!r}: {plugin.problem}")
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
    """All parameters of a method, defaults filled in, canonical types; ValueError as `create`.

    As JSON has them: nested methods are mappings with a `name`, in lists.
    """
    method = create(name, **parameters)
    return {
        field.name: field.metadata["rule"].plain(getattr(method, field.name))
        for field in fields(method)
    }


def identifying(section: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a resolved method (its `name` with its parameters), whatever was added since.

    A parameter that was added to a method `later` is left out at its default, so that the keys of
    older runs stay what they were; a method of a later `revision` has it in its name, so that its
    runs are not taken for older ones.
    """
    method = _lookup(section["name"])
    declared = {field.name: field for field in fields(method)}
    kept = {}
    for key, value in section.items():
        field = declared.get(key)
        if field and field.metadata.get("later") and value == field.default:
            continue
        is_nested = field and isinstance(field.metadata["rule"], MethodsRule)
        kept[key] = [identifying(nested) for nested in value] if is_nested else value
    if method.revision > 1:
        # No name has an "@", and no parameter is in the way.
        kept["name"] = f"{section['name']}@{method.revision}"
    return kept


def describe(name: str) -> MethodInfo:
    """The summary, paper and parameters of method `name`; ValueError if there is none."""
    method = _lookup(name)
    defaults = resolve(name, {})
    parameters = tuple(
        ParameterInfo(key, defaults[key], rule.allowed(), rule.doc)
        for key, (rule, _) in rules(method).items()
    )
    source = next(
        (
            f"{plugin.distribution} {plugin.version}"
            for plugin in plugins()
            if plugin.name == name and plugin.method is method
        ),
        "",
    )
    return MethodInfo(name, method.summary, method.paper, parameters, source)
