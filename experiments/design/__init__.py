"""What a sweep declares before it runs: its question, and when it is looked at."""
