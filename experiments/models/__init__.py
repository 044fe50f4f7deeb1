"""Build the network of a run."""
