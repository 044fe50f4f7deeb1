"""The contract of `augmentations`, run on one method of a config, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from mixbench import augmentations

if TYPE_CHECKING:
    from mixbench.augmentations.contract import Finding


def check(augmentation: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The findings for an `augmentation` section: its name and parameters, checked already."""
    from mixbench.augmentations import contract

    parameters = {key: value for key, value in augmentation.items() if key != "name"}
    return contract.check_method(partial(augmentations.create, augmentation["name"], **parameters))


def as_text(name: str, findings: Sequence[Finding]) -> str:
    """A line for each promise, and under a broken one what is broken and on which batch."""
    lines = []
    told = set()
    for finding in findings:
        why = f" ({finding.reason})" if finding.verdict == "not tried" else ""
        lines.append(f"{finding.verdict:10} {finding.promise}{why}")
        if finding.verdict == "broken":
            # One mistake, such as a name that is not defined, breaks many promises.
            again = finding.reason in told
            told.add(finding.reason)
            lines.append(f"{'':10} -> {'the same as above' if again else finding.reason}")
            if finding.case and not again:
                lines.append(f"{'':10}    on a {finding.case}")
    verdicts = [finding.verdict for finding in findings]
    lines.append(
        f"{name}: {verdicts.count('ok')} promises kept, {verdicts.count('broken')} broken, "
        f"{verdicts.count('not asked')} not asked of it, {verdicts.count('not tried')} not tried"
    )
    return "\n".join(lines)


def as_json(augmentation: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    """The same as one object."""
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
