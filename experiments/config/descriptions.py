"""Read the descriptions of data sets and networks from their files, without importing these.

A room of descriptions is a package with a file for each thing in it. Every file assigns `INFO`, a
frozen dataclass with a `name`, the file's own. Importing the file may import torch, which takes
seconds; a configuration and `mixbench list` need the description alone. So it is read from the
source, and has to be written in literals.
"""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from importlib.abc import InspectLoader
from typing import Any, Protocol, TypeVar


class Described(Protocol):
    """What an `INFO` is: it has a name."""

    @property
    def name(self) -> str: ...


Info = TypeVar("Info", bound=Described)


def read_descriptions(package: str, kind: type[Info]) -> dict[str, Info]:
    """The `INFO` of each file of `package`, an instance of `kind`, by name, sorted.

    Raises ValueError for a file whose INFO is missing, is not made of literals or has another name
    than the file.
    """
    folder = importlib.util.find_spec(package)
    locations = folder.submodule_search_locations if folder else None
    descriptions = {}
    for module in pkgutil.iter_modules(locations):
        path = f"{package}.{module.name}"
        info = kind(**_arguments(path, kind.__name__))
        if info.name != module.name:
            raise ValueError(f"{path}: INFO has the name {info.name!r}, expected {module.name!r}")
        descriptions[info.name] = info
    return dict(sorted(descriptions.items()))


def _arguments(module: str, kind: str) -> dict[str, Any]:
    """The keyword arguments of `INFO = kind(...)` in the source of a module."""
    spec = importlib.util.find_spec(module)
    loader = spec.loader if spec else None
    source = loader.get_source(module) if isinstance(loader, InspectLoader) else None
    for statement in ast.parse(source or "").body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id="INFO")],
                value=ast.Call(func=ast.Name(id=called), args=[], keywords=keywords),
            ) if called == kind:
                try:
                    return {str(word.arg): ast.literal_eval(word.value) for word in keywords}
                except ValueError as error:
                    raise ValueError(f"{module}: INFO must be made of literals: {error}") from None
    raise ValueError(f"{module}: expected INFO = {kind}(...) with keyword arguments")
