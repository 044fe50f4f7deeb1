"""The one error that a user causes: shown as one line, exit status 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the user's input is wrong; the message says what came and what is allowed."""


class Impossible(UserError):
    """A measurement that can't be made of this network or these data, however it is asked for."""


def unknown(what: str, name: object, valid: Iterable[str], hint: str = "") -> UserError:
    """The error for a name that is not one of `valid`, with the nearest one."""
    names = list(valid)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return UserError(f"unknown {what} {name!r}{guess or ';'} valid: {', '.join(names)}{hint}")
