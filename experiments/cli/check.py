"""`mixbench check`: run the contract of `augmentations` on one method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from mixbench.experiments.cli.options import (
    JsonOption,
    MethodArgument,
    ParameterOption,
    augmentation_section,
)
from mixbench.experiments.errors import UserError
from mixbench.experiments.manage.contract_checks import CHOSEN_BY_CONTRACT

if TYPE_CHECKING:
    from mixbench.augmentations.contract import Finding


def check(
    method: MethodArgument, overrides: ParameterOption = None, as_json: JsonOption = False
) -> int:
    """Test an augmentation, or a network or data set of your own, and say what it breaks.

    Exit status 1 if a promise is broken.

    Example: mixbench check cutmix --set alpha=0.2, or mixbench check mypackage.nets:build
    """
    from mixbench import augmentations
    from mixbench.augmentations import contract
    from mixbench.experiments.config import own_code, own_data

    if method not in augmentations.available():
        if own_data.is_dataset(method):
            return _check_own("dataset", method, overrides, as_json)
        if own_code.place_of(method, own_code.NETWORKS):
            return _check_own("model", method, overrides, as_json)
    section = augmentation_section(method, overrides)
    parameters = {key: value for key, value in section.items() if key != "name"}
    for key in CHOSEN_BY_CONTRACT:
        if key in parameters:
            raise UserError(
                f"--set {key}: the contract tries {key} with values of its own; "
                "expected another parameter"
            )
    try:
        augmentations.resolve(method, parameters)
    except ValueError as error:
        raise UserError(f"augmentation: {error}") from None
    findings = contract.check_method(partial(augmentations.create, method, **parameters))
    print(findings_json(section, findings) if as_json else findings_text(method, findings))
    return 1 if any(finding.verdict == "broken" for finding in findings) else 0


def _check_own(kind: str, name: str, overrides: Sequence[str] | None, as_json: bool) -> int:
    """Check a network or data set of the user's own; exit status 1 if a promise is broken."""
    from mixbench.experiments.data.check_own import check_dataset
    from mixbench.experiments.models.check_own import check_network

    if overrides:
        raise UserError(f"--set: got {overrides[0]!r}, but {name} has no parameters here")
    found = (check_dataset if kind == "dataset" else check_network)(name)
    broken = [promise for promise, reason in found if reason]
    if as_json:
        print(json.dumps({kind: name, "ok": not broken, "findings": dict(found)}, indent=1))
        return 1 if broken else 0
    for promise, reason in found:
        print(f"{'broken' if reason else 'ok':10} {promise}{f' -> {reason}' if reason else ''}")
    print(f"{name}: {len(found) - len(broken)} promises kept, {len(broken)} broken")
    return 1 if broken else 0


def findings_text(name: str, findings: Sequence[Finding]) -> str:
    """Write a line for each promise; under a broken one, what is broken and on which batch."""
    lines = []
    reported = set()
    for finding in findings:
        why = f" ({finding.reason})" if finding.verdict == "not tried" else ""
        lines.append(f"{finding.verdict:10} {finding.promise}{why}")
        if finding.verdict == "broken":
            # One mistake, such as a name that is not defined, breaks many promises.
            is_repeated = finding.reason in reported
            reported.add(finding.reason)
            lines.append(f"{'':10} -> {'the same as above' if is_repeated else finding.reason}")
            if finding.case and not is_repeated:
                lines.append(f"{'':10}    on a {finding.case}")
    verdicts = [finding.verdict for finding in findings]
    lines.append(
        f"{name}: {verdicts.count('ok')} promises kept, {verdicts.count('broken')} broken, "
        f"{verdicts.count('not asked')} not asked of it, {verdicts.count('not tried')} not tried"
    )
    return "\n".join(lines)


def findings_json(augmentation: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    """Write the findings as one JSON object."""
    broken = [finding.name for finding in findings if finding.verdict == "broken"]
    return json.dumps(
        {
            "augmentation": dict(augmentation),
            "ok": not broken,
            "broken": broken,
            "findings": [asdict(finding) for finding in findings],
        },
        indent=1,
    )
