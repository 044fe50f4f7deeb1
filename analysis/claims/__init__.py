"""What is said about mixing, one YAML file a claim, and what sweeps say of it."""
