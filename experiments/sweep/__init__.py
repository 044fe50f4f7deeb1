"""Turn a sweep's YAML into runs; the sweeps that ship are in `shipped/`."""
