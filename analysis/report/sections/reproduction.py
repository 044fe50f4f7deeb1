"""The commands that reproduce the sweep and its report, and the sweep's YAML."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from mixbench.analysis.report.data import ReportData
from mixbench.analysis.statistics.baselines import Baseline, parse_baseline


def section(data: ReportData) -> dict[str, Any]:
    """Return the commands and the sweep's YAML."""
    spec = yaml.safe_dump(dict(data.spec), sort_keys=False, allow_unicode=True).strip()
    return {"commands": _commands(data), "spec": spec}


def _commands(data: ReportData) -> list[str]:
    name = shlex.quote(data.folder.name)
    commands = [sweep_command(data.folder.name, data.spec)]
    if data.measured:
        names = ",".join(measured.name for measured in data.measured)
        changed = {k: value for measured in data.measured for k, value in measured.changed.items()}
        commands.append(f"mixbench evaluate {name} --only {names}{_set_options(changed)}")
    return [*commands, f"mixbench report {name}{_baseline_option(data.baseline)}"]


def sweep_command(name: str, spec: Mapping[str, Any]) -> str:
    """Return the `mixbench sweep` command, with the size of a sweep that has sizes."""
    overrides = spec.get("overrides")
    options = _set_options(overrides) if isinstance(overrides, Mapping) else ""
    scale = spec.get("scale")
    if not isinstance(scale, Mapping):
        return f"mixbench sweep {shlex.quote(name)}{options}"
    sized = f"{shlex.quote(str(scale['sweep']))} --scale {shlex.quote(str(scale['scale']))}"
    is_usual = name == f"{scale['sweep']}_{scale['scale']}"
    given_name = "" if is_usual else f" --name {shlex.quote(name)}"
    return f"mixbench sweep {sized}{given_name}{options}"


def _baseline_option(baseline: Baseline) -> str:
    if baseline is None:
        return ""
    wanted = parse_baseline(baseline) or {}
    text = ",".join(f"{key}={_plain(value)}" for key, value in wanted.items())
    return f" --baseline {shlex.quote(text)}"


def _set_options(changes: Mapping[str, Any]) -> str:
    """Return the options `--set KEY=VALUE`."""
    options = ""
    for key, value in changes.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
        text = text.strip().removesuffix("\n...").strip()
        options += f" --set {shlex.quote(f'{key}={text}')}"
    return options


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
