"""One file for each data set that has a name: its INFO, and DATASET, which finds and reads it."""
