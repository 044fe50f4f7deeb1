"""Sound as pictures: clips decoded, and their log-mel spectrograms."""
