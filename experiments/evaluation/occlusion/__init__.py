"""Accuracy with a part of each image hidden."""
