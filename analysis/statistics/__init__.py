"""Compare cells: paired differences, intervals, corrections."""
