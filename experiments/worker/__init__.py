"""Processes that do runs: claim one, execute it, go on until none is left."""
