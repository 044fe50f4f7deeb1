"""The section `staging`: a schedule by its name, or its phases.

`mixbench.experiments.staging.phases` says what phases may hold.
"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from mixbench.experiments.errors import unknown
from mixbench.experiments.section import Section
from mixbench.experiments.staging.named import NAMED


class StagingConfig(Section):
    """The phases in which images are mixed; outside of them none are."""

    name: str | None = None
    phases: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _name_to_section(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_name_or_phases(self) -> StagingConfig:
        if self.name is not None and self.name not in NAMED:
            raise ValueError(str(unknown("schedule", self.name, NAMED)))
        if self.name is None and self.written is None:
            raise ValueError(
                f"expected the name of a schedule ({', '.join(NAMED)}) or phases, got neither"
            )
        return self

    @property
    def written(self) -> tuple[dict[str, Any], ...] | None:
        """The phases, if they were given."""
        return self.phases if "phases" in self.model_fields_set else None
