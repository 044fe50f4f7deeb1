"""Compare speed with other libraries in one run on one machine; used by `mixbench bench` alone."""
