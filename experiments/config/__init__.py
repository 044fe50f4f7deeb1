"""What one run is: the sections of its configuration, their rules, and the keys that identify
it."""
