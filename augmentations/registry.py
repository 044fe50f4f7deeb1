"""Look up methods by name: those in `augmentations/methods/` and those of other packages."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from mixbench.augmentations.card import Card, Paper
from mixbench.augmentations.discovery import Plugin, discover
from mixbench.augmentations.method import Method
from mixbench.augmentations.parameters import nearest, rules


@dataclass(frozen=True)
class ParameterInfo:
    """A parameter as `mixbench list` shows it.

    Attributes:
        name: Its name, as in `create`.
        default: Its default as a JSON value.
        allowed: The allowed values, in words.
        doc: Its meaning.
    """

    name: str
    default: Any
    allowed: str
    doc: str


@dataclass(frozen=True)
class MethodInfo:
    """A method as `mixbench list` shows it.

    Attributes:
        name: Its name, as in `create`.
        summary: What it does, in one line.
        paper: The paper it comes from, if any.
        parameters: Its own parameters, then the common ones.
        source: The package and version it comes from; empty for mixbench's own methods.
        passes: Forward passes of the network that it takes for a batch beyond the usual one.
        card: When to use it, and suggested values; None of a method without one.
    """

    name: str
    summary: str
    paper: Paper | None
    parameters: tuple[ParameterInfo, ...]
    source: str = ""
    passes: float = 0.0
    card: Card | None = None


@cache
def _built_in() -> dict[str, type[Method]]:
    methods: dict[str, type[Method]] = {}
    # Imported by name, because methods made of methods import this module.
    folder = importlib.import_module("mixbench.augmentations.methods")
    for module_info in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if not issubclass(member, Method) or member.__module__ != module.__name__:
                continue
            if member.name in methods:
                raise ValueError(
                    f"two augmentations are named {member.name!r}: "
                    f"{methods[member.name].__module__} and {member.__module__}"
                )
            methods[member.name] = member
    return methods


@cache
def plugins() -> tuple[Plugin, ...]:
    """List the methods that other installed packages register, unusable ones included.

    Returns:
        One entry for each, sorted by name; `Plugin.problem` says why a method can't be used.
    """
    return discover(_built_in())


def is_built_in(name: str) -> bool:
    """Is a method of that name one of mixbench's own? Imports no other package."""
    return name in _built_in()


def plugin_of(name: str) -> Plugin | None:
    """Return the plug-in that a method comes from; None for our own and for unknown methods."""
    if name in _built_in():
        return None
    usable = (plugin for plugin in plugins() if plugin.method is not None)
    return next((plugin for plugin in usable if plugin.name == name), None)


@cache
def _methods() -> dict[str, type[Method]]:
    others = {plugin.name: plugin.method for plugin in plugins() if plugin.method is not None}
    return dict(sorted({**_built_in(), **others}.items()))


def _lookup(name: Any) -> type[Method]:
    if isinstance(name, str) and name in _built_in():
        # No other package can use the name, so none is imported: a package that is being imported
        # may itself create methods by name.
        return _built_in()[name]
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
    """List the names of all registered methods, sorted.

    Examples:
        >>> import mixbench
        >>> "cutmix" in mixbench.available()
        True
    """
    return tuple(_methods())


def create(name: str, **parameters: Any) -> Method:
    """Create a method by its name.

    Args:
        name: One of `available()`.
        **parameters: The method's parameters; the defaults are the original paper's values.

    Returns:
        The method: call it with images and labels.

    Raises:
        ValueError: The name or a parameter is unknown (the message names the valid ones and the
            nearest match), or a value is not allowed.

    Examples:
        >>> import mixbench
        >>> mixbench.create("cutmix", alpha=0.2).alpha
        0.2
        >>> mixbench.create("cutmix", alpa=0.2)
        Traceback (most recent call last):
        ValueError: cutmix has no parameter 'alpa'; did you mean 'alpha'? Its parameters: ...
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
    """Fill in the defaults of a method's parameters.

    Args:
        name: One of `available()`.
        parameters: Those that differ from the defaults.

    Returns:
        All parameters as JSON values in their canonical types: nested methods are lists of mappings
        with a `name`.

    Raises:
        ValueError: As `create`.

    Examples:
        >>> import mixbench
        >>> mixbench.resolve("mixup", {"alpha": 1})
        {'prob': 1.0, 'per_sample': False, 'pairing': 'permute', 'alpha': 1.0}
    """
    return create(name, **parameters).parameters_as_json()


def identifying(section: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce a resolved method to what identifies its runs, so that keys of older runs stay valid.

    A parameter declared with `later` is left out at its default, so that the keys of older runs
    don't change. A `revision` above 1 becomes part of the name, so that new runs get other keys.

    Args:
        section: The `name` of a method with all its parameters, as from `resolve`.

    Returns:
        The part of the section that goes into a run's key.
    """
    method = _lookup(section["name"])
    declared = {field.name: field for field in fields(method)}
    identity = {}
    for key, value in section.items():
        field = declared.get(key)
        if field and field.metadata.get("later") and value == field.default:
            continue
        holds_methods = field and field.metadata["rule"].holds_methods
        identity[key] = [identifying(nested) for nested in value] if holds_methods else value
    if method.revision > 1:
        # In the name, as a parameter would change all keys; no method's name contains "@".
        identity["name"] = f"{section['name']}@{method.revision}"
    return identity


def describe(name: str) -> MethodInfo:
    """Describe a method as `mixbench list` shows it.

    Args:
        name: One of `available()`.

    Returns:
        Its summary, paper, parameters and, if it is not mixbench, its package.

    Raises:
        ValueError: There is no method of that name.

    Examples:
        >>> import mixbench
        >>> str(mixbench.describe("mixup").paper)
        'Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization (arXiv:1710.09412)'
    """
    method = _lookup(name)
    defaults = resolve(name, {})
    parameters = tuple(
        ParameterInfo(key, defaults[key], rule.allowed(), rule.doc)
        for key, (rule, _) in rules(method).items()
    )
    plugin = plugin_of(name)
    source = f"{plugin.distribution} {plugin.version}" if plugin else ""
    passes = create(name).passes
    return MethodInfo(name, method.summary, method.paper, parameters, source, passes, method.card)
