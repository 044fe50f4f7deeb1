"""What a run learns: a folder for each task, with its targets, loss and metrics."""
