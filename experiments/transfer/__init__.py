"""Start from trained weights and freeze a part of the network."""
