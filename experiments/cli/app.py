"""Assembles the command `mixbench` from its verbs; `main` runs it.

Only this room knows every other one. A verb imports what it needs when it runs, so that
`mixbench --help` is quick.
"""

from __future__ import annotations

import errno
import re
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mixbench.experiments.cli import interrupts
from mixbench.experiments.cli.bench import bench_group
from mixbench.experiments.cli.cancel import cancel
from mixbench.experiments.cli.check import check
from mixbench.experiments.cli.claims import claims
from mixbench.experiments.cli.clean import clean
from mixbench.experiments.cli.compare import compare
from mixbench.experiments.cli.dashboard import dashboard
from mixbench.experiments.cli.evaluate import evaluate
from mixbench.experiments.cli.find_lr import find_lr
from mixbench.experiments.cli.growing import command_begins
from mixbench.experiments.cli.inspect import inspect
from mixbench.experiments.cli.list import list_
from mixbench.experiments.cli.logs import logs
from mixbench.experiments.cli.plan import plan
from mixbench.experiments.cli.preview import preview
from mixbench.experiments.cli.profile import profile_group
from mixbench.experiments.cli.recommend import recommend
from mixbench.experiments.cli.report import report
from mixbench.experiments.cli.retry import retry
from mixbench.experiments.cli.status import status
from mixbench.experiments.cli.sweep import sweep
from mixbench.experiments.cli.track import track
from mixbench.experiments.cli.try_folder import try_folder
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.store import processes, rights
from mixbench.experiments.text import one_line, show_every_character

_OF_THE_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
)
"""Errors of a place where files can't be read or written, rather than of the code."""
SECTIONS: dict[str, dict[str, Any]] = {
    "Look around": {"list": list_, "inspect": inspect, "preview": preview, "check": check},
    "Run": {
        "try": try_folder,
        "find-lr": find_lr,
        "plan": plan,
        "sweep": sweep,
        "profile": profile_group,
    },
    "Watch and manage": {
        "status": status,
        "logs": logs,
        "retry": retry,
        "cancel": cancel,
        "clean": clean,
    },
    "Results": {
        "evaluate": evaluate,
        "report": report,
        "recommend": recommend,
        "claims": claims,
        "compare": compare,
        "track": track,
        "dashboard": dashboard,
    },
    "Benchmark": {"bench": bench_group},
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
    """Run the command line and return its exit status.

    0 success, 1 some runs failed, 2 wrong input, 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else [*arguments]
    command_begins(processes.began() if arguments is None else time.time())
    show_every_character()
    try:
        with interrupts.not_dropped():
            exit_status = app(args=words or ["--help"], standalone_mode=False)
    except UserError as error:
        return _complain(str(error))
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if rights.is_refusal(error):
            return _complain(rights.describe(error))
        if error.errno not in _OF_THE_DISK:
            raise
        # The command is right, and results are written whole or not at all.
        _complain(
            f"{error.strerror}: {error.filename or 'the sweep folder'}; what was done is kept"
        )
        return 1
    except Exception as error:
        # typer's own complaints about the command line carry their exit status and text.
        if interrupts.is_interrupt(error):
            return 130
        text = getattr(error, "format_message", None)
        if text is None or not hasattr(error, "exit_code"):
            raise
        return _complain(_reworded(text() or str(error), words))
    return exit_status if isinstance(exit_status, int) else 0


def _reworded(message: str, words: Sequence[str]) -> str:
    """Add the valid commands to typer's complaint about an unknown one."""
    no_such = re.fullmatch(r"No such command '(.*)'\.", message)
    if no_such:
        groups = {"profile": profile_group, "bench": bench_group}
        group = groups.get(words[0], app)
        commands = [
            c.name or getattr(c.callback, "__name__", "") for c in group.registered_commands
        ]
        commands += [str(g.name) for g in group.registered_groups]
        return str(unknown("command", no_such[1], commands))
    return message.replace("Value error, ", "")


def _complain(message: str) -> int:
    print(f"mixbench: {one_line(message)}", file=sys.stderr)
    return 2
