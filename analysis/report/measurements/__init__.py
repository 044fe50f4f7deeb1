"""Read, compare, draw and explain the results of `mixbench evaluate`."""
