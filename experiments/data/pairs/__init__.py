"""Pairs to learn to retrieve: images, and the image or the text that belongs to each."""
