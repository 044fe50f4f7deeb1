"""What results say of their plug-ins' code, and whether that is the code of now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mixbench.experiments.store import plugin_code
from mixbench.experiments.store.plugin_code import PluginCode

NOW = {"strips": PluginCode("1.3", "b" * 16)}
STRIP = {"augmentation": {"name": "strip"}}
OWN = {"augmentation": {"name": "cutmix"}}


def result(version: str = "1.3", digest: str | None = None, **more: Any) -> dict[str, Any]:
    digests = {"plugin_digests": {"strips": digest}} if digest else {}
    return {"provenance": {"plugins": {"strips": version, "another": "2"}, **digests, **more}}


def test_methods_are_found_wherever_they_are() -> None:
    config = {
        "augmentation": {"name": "choice", "methods": [{"name": "strip"}, {"name": "mixup"}]},
        "staging": {"name": "hesitate", "phases": [{"method": {"name": "wave"}}]},
        "model": {"name": "small_cnn"},
    }
    assert plugin_code.method_names(config) == ["choice", "strip", "mixup", "wave"]
    assert plugin_code.uses_plugin(config)
    assert not plugin_code.uses_plugin(OWN)
    assert plugin_code.current(OWN) == {}


def test_digests_tell_and_without_them_versions() -> None:
    same, other = result(digest="b" * 16), result(digest="a" * 16)
    assert plugin_code.changed(same, STRIP, NOW) == {}
    assert plugin_code.changed(result("1.2", "b" * 16), STRIP, NOW) == {}
    assert str(plugin_code.changed(other, STRIP, NOW)["strips"][0]) == "1.3 (code aaaaaaaa)"
    assert plugin_code.changed(result("1.3"), STRIP, NOW) == {}
    old = plugin_code.changed(result("1.2"), STRIP, NOW)
    assert str(old["strips"][0]) == "1.2 (code not recorded)"
    # What is installed but not used made nothing of the result; nor do results without a record.
    assert plugin_code.recorded(result("1.2"), OWN) == {}
    assert plugin_code.recorded({}, STRIP) == {} == plugin_code.recorded({"provenance": 3}, STRIP)


def test_only_a_recorded_digest_is_surely_the_code_of_now() -> None:
    assert plugin_code.is_current(result(digest="b" * 16), STRIP, NOW)
    assert plugin_code.is_current(result(), OWN, {})
    assert plugin_code.is_current({}, OWN, {})
    for doubtful in (
        result(digest="a" * 16),
        result(),
        {},
        result(digest="b" * 16, earlier_plugin_digests={"strips": ["a" * 16]}),
    ):
        assert not plugin_code.is_current(doubtful, STRIP, NOW)
    # The plug-in is gone, or its source can't be read.
    assert not plugin_code.is_current(result(digest="b" * 16), STRIP, {})
    assert not plugin_code.is_current(result(), STRIP, {"strips": PluginCode("1.3", None)})


def test_a_run_that_goes_on_remembers_the_code_it_was_begun_with(tmp_path: Path) -> None:
    assert plugin_code.earlier(tmp_path, NOW) == {}
    history: dict[str, list[str]] = {}
    for digest, expected in (
        ("a", {}),
        ("a", {}),
        ("b", {"strips": ["a"]}),
        ("c", {"strips": ["a", "b"]}),
        ("a", {"strips": ["b", "c"]}),
    ):
        code = {"strips": PluginCode("1.3", digest)}
        history = plugin_code.earlier(tmp_path, code)
        assert history == expected
        record = plugin_code.record(code, history)
        (tmp_path / "config.json").write_text(json.dumps(record))
    assert plugin_code.earlier(tmp_path, {}) == {}
    assert plugin_code.record({}, {}) == {}
