"""`mixbench check`."""

from __future__ import annotations

from typing import Annotated

import typer

from mixbench.experiments.cli.options import ParameterOption, augmentation
from mixbench.experiments.errors import UserError


def check(
    method: Annotated[str, typer.Argument(help="An augmentation, such as cutmix, or yours.")],
    overrides: ParameterOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object, for a program.")
    ] = False,
) -> int:
    """Run the whole contract on an augmentation and say in words what it breaks.

    Exit status 1 where a promise is broken.

    Example: mixbench check cutmix --set alpha=0.2
    """
    from mixbench import augmentations

    section = augmentation(method, overrides)
    parameters = {key: value for key, value in section.items() if key != "name"}
    fixed = [key for key in ("prob", "per_sample", "pairing") if key in parameters]
    if fixed:
        raise UserError(
            f"--set {fixed[0]}: the contract tries {fixed[0]} with values of its own; "
            "expected another parameter"
        )
    try:
        augmentations.resolve(method, parameters)
    except ValueError as error:
        raise UserError(f"augmentation: {error}") from None

    from mixbench.experiments.cli import contract

    findings = contract.check(section)
    print(contract.as_json(section, findings) if as_json else contract.as_text(method, findings))
    return 1 if any(finding.verdict == "broken" for finding in findings) else 0
