"""The base of all sections that a user writes: frozen, and strict about keys and numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator

from mixbench.augmentations.parameters import as_python


def as_number(value: Any) -> Any:
    """Return the number that a text says, and anything else as it is: YAML reads 1e-3 as text.

    -0.0 is returned as 0.0, as two ways to write a setting must not give two keys.
    """
    value = as_python(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return value + 0.0 if isinstance(value, float) else value


Number = Annotated[float, BeforeValidator(as_number)]


class Section(BaseModel):
    """A frozen section of a configuration, which refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: Any) -> Any:
        value = as_python(value)
        # bool is an int in Python; `epochs: true` is a mistake, not a 1.
        if isinstance(value, bool):
            annotation = cls.model_fields[info.field_name].annotation
            if "bool" not in str(annotation):
                words = "yes, on and true" if value else "no, off and false"
                raise ValueError(
                    f"a number or a name, not {str(value).lower()} (YAML takes {words} for "
                    f"{str(value).lower()}; in quotes they are names){_choices(annotation)}"
                )
        return value


def _choices(annotation: Any) -> str:
    """Return "; one of ..." for a field that takes some names; else ""."""
    names = [
        name
        for kind in (annotation, *get_args(annotation))
        if get_origin(kind) is Literal
        for name in get_args(kind)
    ]
    return f"; one of {', '.join(map(repr, names))}" if names else ""


def section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field of this annotation holds, if it holds one."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
