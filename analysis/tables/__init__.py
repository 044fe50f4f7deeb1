"""Turn run folders into tidy tables."""
