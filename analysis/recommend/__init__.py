"""What to use, and the lines to paste."""
