"""Build a report page from its sections."""
