"""The command `mixbench`: a file per verb, put together in `app`."""

# These two alone before the handler: until it is set, Ctrl-C prints Python's traceback.
import os
import signal


def _leave(*_: object) -> None:
    """End the process: nothing has begun that would have to be ended."""
    os._exit(130)


_is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _is_ours:
    try:
        signal.signal(signal.SIGINT, _leave)
    except ValueError:
        # Imported by another thread than the main one.
        _is_ours = False
try:
    from mixbench.experiments.cli.app import main
finally:
    if _is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["main"]
