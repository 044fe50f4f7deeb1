"""Identify the code of a plug-in by its contents, wherever and however it is installed."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mixbench.augmentations.method import Method

_COMPILED = (".so", ".pyd", ".dylib", ".dll")
_IMPORTS = re.compile(rb"^[ \t]*(from|import)[ \t]+([^\n#;]+)", re.MULTILINE)


def digest(methods: Iterable[type[Method]], distribution: str) -> str | None:
    """Hash the source of the package that methods come from.

    Covered are the `.py` and compiled files of the top-level packages (or modules) of the methods'
    classes and of their bases, and of the packages beside them that they import and that belong to
    the same distribution. Names and contents alone count: an editable install, a wheel and a copy
    on another machine have one digest.

    Args:
        methods: The methods' classes.
        distribution: The installed package that registers them.

    Returns:
        16 hexadecimal digits; None where the source can't be read, as inside a zip file.
    """
    files: dict[str, Path] = {}
    try:
        for method in methods:
            files |= _files(method, distribution)
        return _hashed(files)
    except OSError:
        return None


def _hashed(files: dict[str, Path]) -> str | None:
    sha = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        if path.suffix == ".py":
            content = content.replace(b"\r\n", b"\n")
        sha.update(f"{name} {len(content)}\n".encode() + content)
    return sha.hexdigest()[:16] if files else None


def module_digest(module: str) -> str | None:
    """Hash the source of the package that an imported module is in, as `digest` does.

    Args:
        module: Its dotted name, such as "mypackage.nets".

    Returns:
        16 hexadecimal digits; None where the source can't be read.
    """
    package = _top_package(module)
    module_file = getattr(sys.modules.get(package), "__file__", None)
    if module_file is None:
        return None
    path = Path(module_file)
    is_package = path.name.startswith("__init__.")
    there = path.parent if is_package else path
    root = path.parents[package.count(".") + is_package]
    owners = importlib.metadata.packages_distributions().get(package.partition(".")[0], [])
    try:
        files = _contents(package, there)
        own = _own(owners[0], root, path) if owners else None
        return _hashed(files | _imported(files, there, root, own))
    except OSError:
        return None


def _files(method: type[Method], distribution: str) -> dict[str, Path]:
    """Return the files of the plug-in by the names that they are imported by."""
    files: dict[str, Path] = {}
    for kind in method.__mro__:
        if kind.__module__.partition(".")[0] == "mixbench" or not issubclass(kind, Method):
            continue
        package = _top_package(kind.__module__)
        module_file = getattr(sys.modules.get(package), "__file__", None)
        if module_file is None:
            continue
        path = Path(module_file)
        is_package = path.name.startswith("__init__.")
        root = path.parents[package.count(".") + is_package]
        there = path.parent if is_package else path
        contents = _contents(package, there)
        files |= contents
        if kind is method:
            files |= _imported(contents, there, root, _own(distribution, root, path))
    return files


def _top_package(module: str) -> str:
    """Return the outermost part of a dotted name that is no namespace package."""
    parts = module.split(".")
    for end in range(1, len(parts)):
        package = ".".join(parts[:end])
        if getattr(sys.modules.get(package), "__file__", None):
            return package
    return module


def _contents(package: str, path: Path) -> dict[str, Path]:
    """Return the code in a package's folder, or the file of a module, by name."""
    head = package.replace(".", "/")
    if not path.is_dir():
        return {f"{head.rpartition('/')[0]}/{path.name}".lstrip("/"): path}
    return {
        f"{head}/{file.relative_to(path).as_posix()}": file
        for file in path.rglob("*")
        if file.suffix in (".py", *_COMPILED) and file.is_file()
    }


def _own(distribution: str, root: Path, path: Path) -> frozenset[str] | None:
    """Return the files of a distribution, relative to `root`; None where all below it are its own.

    The latter is an editable install: `root` is the folder of the sources.
    """
    try:
        installed = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return frozenset()
    names = frozenset(file.as_posix() for file in installed.files or ())
    is_listed = path.relative_to(root).as_posix() in names
    # Without a list of files, a folder into which others are installed too tells nothing.
    is_shared = sum(1 for _ in root.glob("*.dist-info")) > 1
    return names if is_listed or is_shared else None


def _imported(
    files: dict[str, Path], package: Path, root: Path, own: frozenset[str] | None
) -> dict[str, Path]:
    """Return the code beside `package` that its files import, and what that imports in turn."""
    found: dict[str, Path] = {}
    modules: set[str] = set()
    covered = {package}
    waiting = [*files.values()]
    while waiting:
        file = waiting.pop()
        if file.suffix != ".py":
            continue
        new_modules = set(_modules(file.read_bytes())) - modules
        modules |= new_modules
        for module in new_modules:
            located = _locate(root, module)
            if located is None or located[1] in covered:
                continue
            name, path = located
            covered.add(path)
            entry = path / "__init__.py" if path.is_dir() else path
            if own is None or entry.relative_to(root).as_posix() in own:
                contents = _contents(name, path)
                found |= contents
                waiting += contents.values()
    return found


def _modules(source: bytes) -> Iterator[str]:
    """Yield the absolute dotted names that a source imports, or may import."""
    for match in _IMPORTS.finditer(source):
        first, _, rest = match[2].decode(errors="replace").partition(" import ")
        if match[1] == b"import":
            yield from (words[0] for part in first.split(",") if (words := part.split()))
        elif not first.startswith("."):
            yield first.strip()
            # Of a namespace package, what comes from it is a package.
            parts = rest.strip("( ").split(",")
            yield from (f"{first.strip()}.{words[0]}" for part in parts if (words := part.split()))


def _locate(root: Path, module: str) -> tuple[str, Path] | None:
    """Return the outermost package or module of a dotted name below `root`, and where it is."""
    parts = module.split(".")
    if parts[0] in sys.stdlib_module_names or not all(map(str.isidentifier, parts)):
        return None
    folder = root
    for number, part in enumerate(parts, start=1):
        package = ".".join(parts[:number])
        if (folder / part / "__init__.py").is_file():
            return package, folder / part
        for suffix in importlib.machinery.all_suffixes():
            if (folder / f"{part}{suffix}").is_file():
                return package, folder / f"{part}{suffix}"
        folder = folder / part
        if not folder.is_dir():
            return None
    return None
