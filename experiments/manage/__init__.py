"""Watch and manage sweeps: status, logs, estimates, cancel, clean."""
