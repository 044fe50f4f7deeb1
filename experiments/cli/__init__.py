"""The command `mixbench`. The only package that knows every folder; it imports them when needed."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mixbench.experiments.cli import (
    benching,
    checking,
    evaluating,
    looking,
    managing,
    planning,
    profiles,
    results,
    sweeping,
    watching,
)
from mixbench.experiments.errors import UserError, unknown

SECTIONS: dict[str, dict[str, Any]] = {
    "Look around": {"list": looking.list_, "preview": looking.preview, "check": checking.check},
    "Run": {"plan": planning.plan, "sweep": sweeping.sweep, "profile": profiles.group},
    "Watch and manage": {
        "status": watching.status,
        "logs": watching.logs,
        "retry": managing.retry,
        "cancel": managing.cancel,
        "clean": managing.clean,
    },
    "Results": {
        "evaluate": evaluating.evaluate,
        "report": results.report,
        "track": results.track,
        "dashboard": results.dashboard,
    },
    "Measure": {"bench": benching.group},
}
"""The verbs as `mixbench --help` shows them."""


class _InSections(TyperGroup):
    """Shows the commands in sections, each with its first sentence in full."""

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (f"{name:{width}}", self.commands[name].get_short_help_str(300))
                        for name in names
                    ]
                )


app = typer.Typer(
    cls=_InSections,
    help="Benchmark and ablation suite for mixing augmentations.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def mixbench(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Benchmark and ablation suite for mixing augmentations."""
    if version:
        from importlib.metadata import version as installed

        print(f"mixbench {installed('mixbench')}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


for verbs in SECTIONS.values():
    for name, verb in verbs.items():
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, name=name)
        else:
            app.command(name)(verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit status: 0 good, 1 some runs failed, 2 wrong input, 130 interrupted."""
    # Not `list(...)`: that is the module of the verb here.
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    try:
        status = app(args=given or ["--help"], standalone_mode=False)
    except UserError as error:
        return _complain(str(error))
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        # Nothing is wrong with the command, and results are written whole or not at all.
        _complain(
            f"{error.strerror}: {error.filename or 'the sweep folder'}; what was done is kept"
        )
        return 1
    except Exception as error:
        # typer's own complaints about the command line carry their exit status and text.
        text = getattr(error, "format_message", None)
        if text is None or not hasattr(error, "exit_code"):
            raise
        return _complain(_reworded(text() or str(error), given))
    return status if isinstance(status, int) else 0


def _reworded(message: str, given: Sequence[str]) -> str:
    """typer's complaint, with the valid commands where none was named."""
    no_such = re.fullmatch(r"No such command '(.*)'\.", message)
    if no_such:
        groups = {"profile": profiles.group, "bench": benching.group}
        group = groups.get(given[0], app)
        commands = [
            c.name or getattr(c.callback, "__name__", "") for c in group.registered_commands
        ]
        commands += [str(g.name) for g in group.registered_groups]
        return str(unknown("command", no_such[1], commands))
    return message.replace("Value error, ", "")


def _complain(message: str) -> int:
    print(f"mixbench: {' '.join(message.split())}", file=sys.stderr)
    return 2
