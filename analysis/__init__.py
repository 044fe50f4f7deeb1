"""From run folders to a table, statistics, figures and a report; nothing here imports torch."""
