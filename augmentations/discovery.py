"""Load methods of other installed packages through their entry points.

A package declares, in its pyproject.toml:

    [project.entry-points."mixbench.augmentations"]
    strip = "its_module:Strip"

The name of the entry point is the name of the method. A method that can't be used is left out, and
`Plugin.problem` gives the reason in one line.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from mixbench.augmentations.method import Method
from mixbench.augmentations.parameters import rules

GROUP = "mixbench.augmentations"


@dataclass(frozen=True)
class Plugin:
    """A method of another package.

    Attributes:
        name: The name of the entry point and of the method.
        distribution: The installed package that registers it.
        version: The package's version.
        method: The method's class; None if it can't be used.
        problem: Why it can't be used, in one line; empty if it can.
    """

    name: str
    distribution: str
    version: str
    method: type[Method] | None
    problem: str = ""


def discover(built_in: Mapping[str, type[Method]]) -> tuple[Plugin, ...]:
    """Load the methods that other packages register.

    Args:
        built_in: mixbench's own methods by name; other packages can't use these names.

    Returns:
        All entry points of the group `mixbench.augmentations`, sorted by name.
    """
    entries = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))
    times = Counter(entry.name for entry in entries)
    plugins = []
    for entry in entries:
        method: type[Method] | None = None
        if entry.name in built_in:
            problem = f"the name is taken by {built_in[entry.name].__module__}"
        elif times[entry.name] > 1:
            others = sorted({_distribution(other) for other in entries if other.name == entry.name})
            problem = f"{times[entry.name]} entries have this name, in {' and '.join(others)}"
        else:
            method, problem = _load(entry)
        if problem:
            problem = f"{entry.name} of {_distribution(entry)} is left out: {problem}"
        version = entry.dist.version if entry.dist else "unknown"
        plugins.append(Plugin(entry.name, _distribution(entry), version, method, problem))
    return tuple(plugins)


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"


def _load(entry: EntryPoint) -> tuple[type[Method] | None, str]:
    # Foreign code: whatever it raises, SystemExit included, must not stop the others.
    try:
        method = entry.load()
    except (Exception, SystemExit) as error:
        return None, f"{entry.value} can't be imported, {_in_one_line(error)}"
    if not (inspect.isclass(method) and issubclass(method, Method)):
        return None, f"{entry.value} is not a subclass of mixbench.Method"
    if inspect.isabstract(method):
        missing = ", ".join(sorted(method.__abstractmethods__))
        return None, f"{entry.value} does not define {missing}"
    name = getattr(method, "name", None)
    if name != entry.name:
        return None, f"{entry.value} has the name {name!r}; entry and method must agree"
    if hasattr(method, "check"):
        # Its name before 0.2: it would not be called, and what it forbids would be accepted.
        return None, f"{entry.value} has a check(); rename it to check_combination()"
    try:
        rules(method)
        method()
    except Exception as error:
        return None, f"{entry.value} can't be created with its defaults, {_in_one_line(error)}"
    return method, ""


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
