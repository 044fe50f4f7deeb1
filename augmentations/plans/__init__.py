"""What a method draws: blends, pasted rectangles, and combinations of both."""
