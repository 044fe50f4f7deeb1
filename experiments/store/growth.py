"""What a sweep's plan becomes when somebody asks for other runs: which come, which stay, which go.

Nothing here touches a disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.plan import Command, Head, PlanRow, Revision, Wish

_SAME_WHEREVER = ("dataset.name", "staging.name", "transfer.weights")
"""What may differ between equal keys: where a folder or a file lies, what a schedule is called."""


@dataclass(frozen=True)
class Growth:
    """How a plan changed, by run keys in the order of the plan.

    added: new in the plan. returned: those of them that were planned before. dropped_rows: planned
    until now, and no longer. kept: what others asked for at the same time, which stays.
    """

    added: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    dropped_rows: tuple[PlanRow, ...] = ()
    kept: tuple[str, ...] = ()
    kept_for: tuple[Wish, ...] = ()

    @property
    def dropped(self) -> tuple[str, ...]:
        """The keys of `dropped_rows`."""
        return tuple(row.run_key for row in self.dropped_rows)


def grown(
    newest: Revision,
    wish: Wish,
    wanted: Sequence[PlanRow],
    command: Command,
    on_disk: set[str] | None = None,
) -> tuple[Revision, Growth]:
    """The plan with the wish, and what changed; the very same revision where nothing did.

    The wish replaces what was planned before the command began. What others planned since, or what
    another's command that still runs asked for, stays: two that grow a sweep at once end with the
    union. on_disk: the keys of runs that have a folder; others need not be remembered for ever.
    """
    kept = [
        number
        for number, other in enumerate(newest.head.wishes)
        if (command.continues and number) or other.is_at_once_with(command)
        if (other.spec, other.description) != (wish.spec, wish.description)
    ]
    mine = {row.run_key: row for row in wanted}
    places = {number: place for place, number in enumerate(kept, start=1)}
    rows: dict[str, PlanRow] = {key: replace(row, wishes=(0,)) for key, row in mine.items()}
    for row in newest.rows:
        also = tuple(places[number] for number in row.wishes if number in places)
        if not also:
            continue
        known = rows.get(row.run_key)
        if known is None:
            rows[row.run_key] = replace(row, wishes=also)
        else:
            only = known.pretraining and row.pretraining
            rows[row.run_key] = replace(known, pretraining=only, wishes=(0, *also))
    before = newest.keys
    dropped = tuple(row for key, row in before.items() if key not in rows)
    wishes = (wish, *(newest.head.wishes[number] for number in kept))
    added = tuple(key for key in rows if key not in before)
    growth = Growth(
        added=added,
        returned=tuple(key for key in added if key in newest.head.dropped),
        dropped_rows=dropped,
        kept=tuple(key for key in rows if key not in mine),
        kept_for=wishes[1:],
    )
    if _is_same(newest, rows, wishes):
        return newest, growth
    remembered = newest.head.dropped if on_disk is None else newest.head.dropped & on_disk
    gone = {key for row in dropped for key in row.possible_keys}
    # Of the settings that a run could have had, at most one was trained.
    gone = {key for key in gone if key in before or on_disk is None or key in on_disk}
    all_dropped = (remembered | gone) - {key for row in rows.values() for key in row.possible_keys}
    head = Head(newest.head.number + 1, wishes, all_dropped)
    return Revision(head, tuple(rows.values())), growth


def _is_same(newest: Revision, rows: Mapping[str, PlanRow], wishes: Sequence[Wish]) -> bool:
    before = newest.keys
    if before.keys() != rows.keys():
        return False
    if any(before[key].pretraining != row.pretraining for key, row in rows.items()):
        return False
    given = [(wish.spec, wish.description) for wish in wishes]
    return all((wish.spec, wish.description) in given for wish in newest.head.wishes) and (
        given[0] in [(wish.spec, wish.description) for wish in newest.head.wishes]
    )


def check_same_run(
    sweep: str, run_key: str, was: Mapping[str, Any], wanted: Mapping[str, Any], where: str
) -> None:
    """UserError, naming the field, where a run would be another run under the same key.

    Options that one of the two does not have are no difference: later versions add them.
    """
    for field, before, now in _differences(was, wanted):
        raise UserError(
            f"run {run_key} of sweep {sweep!r}: {field} was {before!r} ({where}), and is {now!r} "
            "now: another run would have the same key; give the changed sweep another name with "
            "--name"
        )


def _differences(was: Any, wanted: Any, field: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted names of the values that both have and that differ, with both values."""
    # Equal parts are compared whole: there may be ten thousand configurations.
    if was is None or wanted is None or was == wanted or field in _SAME_WHEREVER:
        return
    if isinstance(was, dict) and isinstance(wanted, dict):
        parts = [(str(key), was.get(key), value) for key, value in wanted.items()]
    elif _is_list_of_sections(was) and _is_list_of_sections(wanted) and len(was) == len(wanted):
        parts = [(str(place), *pair) for place, pair in enumerate(zip(was, wanted, strict=True))]
    else:
        yield field, was, wanted
        return
    for name, before, now in parts:
        yield from _differences(before, now, f"{field}.{name}" if field else name)


def _is_list_of_sections(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(part, dict) for part in value)
