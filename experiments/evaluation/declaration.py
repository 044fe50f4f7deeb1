"""How a measurement declares itself, without torch.

    evaluation/attack/__init__.py    MEASUREMENT = Measurement(name, summary, settings)
    evaluation/attack/measure.py     measure(subject, settings) -> Measured

A measurement `of_cell` has `measure_cell(predictions, settings) -> [Measured, ...]`, one for each
run of the cell. `measure.py` may also have `prepare(settings, dataset)` and `check_runs(settings,
runs)`, called before any run is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BeforeValidator,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from mixbench.experiments.design.tasks import CLASSIFICATION
from mixbench.experiments.section import Section

SLOW_SECONDS = 10.0
"""What takes longer for a network of the sweep `demo` is measured only if asked for by name."""


@dataclass(frozen=True)
class Measurement:
    """A measurement as `mixbench list measurements` shows it.

    Attributes:
        name: In `--only`, in `--set NAME.key=value` and in front of its metrics.
        summary: A line.
        settings: Their schema.
        aliases: Other names that users may type.
        order: Its rank in lists and reports; the default is last.
        of_cell: Is it measured over all finished runs of a cell, from their saved predictions?
        tasks: Of the runs that it can measure.
        seconds: CPU time for one network of the sweep `demo` with the default settings, measured by
            `python -m tests.bench.measurements`; None if nobody has measured it.
    """

    name: str
    summary: str
    settings: type[Section]
    aliases: tuple[str, ...] = ()
    order: int = 1000
    of_cell: bool = False
    tasks: tuple[str, ...] = (CLASSIFICATION,)
    seconds: float | None = None

    @property
    def is_by_name(self) -> bool:
        """Is it too slow to be measured unless it is asked for?"""
        return self.seconds is not None and self.seconds > SLOW_SECONDS


class MeasurementSettings(Section):
    """Settings that grew: those in `later` are not written down while they have their default.

    Files of earlier versions lack them, and so count as measured with the default.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_earlier_versions(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if (info.context or {}).get("every"):
            return values
        fields = type(self).model_fields
        return {
            name: value
            for name, value in values.items()
            if name not in self.later or getattr(self, name) != fields[name].default
        }


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


Item = TypeVar("Item")
Listed = Annotated[tuple[Item, ...], BeforeValidator(_as_list)]
"""A list; a single value is taken for a list of one."""


def ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    """The values in rising order, each once.

    Examples:
        >>> ascending((0.5, 0.1, 0.5))
        (0.1, 0.5)
    """
    return tuple(sorted(set(values)))
