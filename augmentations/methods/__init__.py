"""One file per method. A file added here is in the registry; nothing else needs a change."""
