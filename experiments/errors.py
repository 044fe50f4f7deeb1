"""Errors that a user causes: shown as one line, with exit status 2 and no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the user's input is wrong; the message says what came and what is allowed."""


class Impossible(UserError):
    """A measurement that can't be made of this network or these data, whatever its settings."""


def nearest(name: object, valid: Iterable[str]) -> str | None:
    """Return the name of `valid` that is most like `name`; None if none is like it."""
    close = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return close[0] if close else None


def did_you_mean(name: object, valid: Iterable[str]) -> str:
    """Return "; did you mean 'cutmix'?" with the nearest name of `valid`; "" if there is none."""
    guess = nearest(name, valid)
    return "" if guess is None else f"; did you mean {guess!r}?"


def unknown(what: str, name: object, valid: Iterable[str], hint: str = "") -> UserError:
    """Return the error for a name that is not one of `valid`, with the nearest one."""
    names = list(valid)
    guess = did_you_mean(name, names) or ";"
    return UserError(f"unknown {what} {name!r}{guess} valid: {', '.join(names)}{hint}")
