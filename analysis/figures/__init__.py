"""Draw the report's figures."""
