"""The documented packages: every public name has a docstring, and every example in one runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

PACKAGES = [
    "mixbench.analysis.statistics",
    "mixbench.augmentations",
    "mixbench.experiments.evaluation",
]
"""Add a package here when its docstrings are written; the modules in it are found."""

ALLOWED_DIFFERENCES = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules_of(package: str) -> list[str]:
    """The names of the package and of all modules in it, from the files: nothing is imported."""
    paths = list(importlib.import_module(package).__path__)
    modules = [package]
    for info in pkgutil.iter_modules(paths, prefix=f"{package}."):
        modules += modules_of(info.name) if info.ispkg else [info.name]
    return modules


@pytest.mark.parametrize("package", PACKAGES)
def test_examples_give_what_they_show(package: str) -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    report: list[str] = []
    for name in modules_of(package):
        runner = doctest.DocTestRunner(optionflags=ALLOWED_DIFFERENCES)
        for example in finder.find(importlib.import_module(name)):
            runner.run(example, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_have_a_docstring(package: str) -> None:
    """Unlike ruff's rules, this takes the docstring that an overriding method inherits."""
    missing = [
        f"{name}: {path}"
        for name in modules_of(package)
        for path, value in public_names(importlib.import_module(name))
        if not inspect.getdoc(value)
    ]
    assert missing == []


def public_names(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name, value in vars(module).items():
        is_defined_here = getattr(value, "__module__", None) == module.__name__
        if name.startswith("_") or not is_defined_here:
            continue
        if inspect.isclass(value):
            yield name, value
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and is_documented_kind(member):
                    yield f"{name}.{attribute}", getattr(value, attribute)
        elif inspect.isfunction(value) or hasattr(value, "cache_info"):
            yield name, value


def is_documented_kind(member: object) -> bool:
    return inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod))
