"""One file for each network of ours: its INFO, and NETWORK, the class."""
