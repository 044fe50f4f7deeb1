"""What `mixbench evaluate` measured: read, compared, drawn and explained."""
