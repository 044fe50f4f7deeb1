"""The command `mixbench`: a file per verb, put together in `app`."""

from mixbench.experiments.cli.app import main

__all__ = ["main"]
