"""Which code of other packages made a result: the version and the digest of its plug-ins.

A result's provenance has `plugins` (the version of every installed one) and, if its method, or one
that is part of it, is a plug-in's, `plugin_digests`, both by the name of the distribution. A run
that went on from a checkpoint of other code also has `earlier_plugin_digests`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixbench.experiments.store.files import read_json

if TYPE_CHECKING:
    from mixbench.augmentations.method import Method

DIGESTS, EARLIER = "plugin_digests", "earlier_plugin_digests"


@dataclass(frozen=True)
class PluginCode:
    """The code of a plug-in.

    version: empty where it is not known. digest: None where a result was made before digests were
    recorded.
    """

    version: str
    digest: str | None

    def __str__(self) -> str:
        code = f"code {self.digest[:8]}" if self.digest else "code not recorded"
        return f"{self.version} ({code})" if self.version else code

    def differs(self, other: PluginCode) -> bool:
        """Is it known to be other code? Without digests the versions tell."""
        if self.digest and other.digest:
            return self.digest != other.digest
        return self.version != other.version


def current(config: Mapping[str, Any]) -> dict[str, PluginCode]:
    """Return distribution -> code, as installed now, of the plug-ins of a run's methods.

    config: of the run, as JSON has it. The code is read once per process.
    """
    from mixbench.augmentations import registry

    found = {}
    for name in method_names(config):
        plugin = registry.plugin_of(name)
        if plugin is not None:
            found[plugin.distribution] = _installed()[plugin.distribution]
    return dict(sorted(found.items()))


def recorded(result: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, PluginCode]:
    """Return distribution -> code of the plug-ins that made a result.

    A result without digests may have come from any plug-in that was installed, unless all methods
    of its run are mixbench's own.
    """
    provenance = result.get("provenance")
    versions, digests = _part(provenance, "plugins"), _part(provenance, DIGESTS)
    if versions and not digests and uses_plugin(config):
        digests = dict.fromkeys(versions)
    return {
        name: PluginCode(str(versions.get(name, "")), digest) for name, digest in digests.items()
    }


def changed(
    result: Mapping[str, Any], config: Mapping[str, Any], code: Mapping[str, PluginCode]
) -> dict[str, tuple[PluginCode, PluginCode]]:
    """Return distribution -> code of a result and code of now, where these are known to differ.

    code: that of now, as from `current(config)`.
    """
    made_with = recorded(result, config)
    return {
        name: (made_with[name], now)
        for name, now in code.items()
        if name in made_with and made_with[name].differs(now)
    }


def is_current(
    result: Mapping[str, Any], config: Mapping[str, Any], code: Mapping[str, PluginCode]
) -> bool:
    """Was all of a result made with this code of its plug-ins? False where that is not known.

    code: that of now, as from `current(config)`; a run without plug-ins is always current.
    """
    provenance = result.get("provenance")
    if not code and not uses_plugin(config):
        return True
    digests = _part(provenance, DIGESTS)
    wanted = {name: each.digest for name, each in code.items()}
    return (
        bool(code)
        and None not in wanted.values()
        and (digests == wanted and not _part(provenance, EARLIER))
    )


def record(code: Mapping[str, PluginCode], earlier: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return what a result's provenance says of its plug-ins' code; {} for a run without."""
    digests = {name: each.digest for name, each in code.items() if each.digest}
    return {**({DIGESTS: digests} if digests else {}), **({EARLIER: earlier} if earlier else {})}


def earlier(folder: Path, code: Mapping[str, PluginCode]) -> dict[str, list[str]]:
    """Return distribution -> digests of other code that trained the run before, oldest first.

    To be asked when the run goes on from a checkpoint, before its config.json is written again.
    """
    before = read_json(folder / "config.json") or {}
    history: dict[str, list[str]] = {
        name: list(digests) for name, digests in _part(before, EARLIER).items()
    }
    for name, digest in _part(before, DIGESTS).items():
        history.setdefault(name, []).append(digest)
    others = {
        name: [each for each in dict.fromkeys(digests) if each != code[name].digest]
        for name, digests in history.items()
        if name in code
    }
    return {name: digests for name, digests in others.items() if digests}


def method_names(config: Mapping[str, Any]) -> list[str]:
    """Return the names of all methods in a run's configuration, nested ones included."""
    return list(dict.fromkeys(section["name"] for section in method_sections(config)))


def method_sections(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield all methods in a run's configuration with their parameters, nested ones included."""
    staging = config.get("staging")
    phases = staging.get("phases") if isinstance(staging, Mapping) else None
    return _named([config.get("augmentation"), phases])


def uses_plugin(config: Mapping[str, Any]) -> bool:
    """Is a method of the run none of mixbench's own?"""
    from mixbench.augmentations import registry

    return any(not registry.is_built_in(name) for name in method_names(config))


def _named(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if isinstance(value.get("name"), str):
            yield value
        for part in value.values():
            yield from _named(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _named(part)


def _part(section: Any, name: str) -> dict[str, Any]:
    part = section.get(name) if isinstance(section, Mapping) else None
    return part if isinstance(part, dict) else {}


@cache
def _installed() -> dict[str, PluginCode]:
    from mixbench.augmentations import plugin_source, registry

    # All at once, when the packages are imported: they may be edited while a worker works.
    methods: dict[tuple[str, str], list[type[Method]]] = {}
    for plugin in registry.plugins():
        if plugin.method is not None:
            methods.setdefault((plugin.distribution, plugin.version), []).append(plugin.method)
    return {
        name: PluginCode(version, plugin_source.digest(classes, name))
        for (name, version), classes in methods.items()
    }
