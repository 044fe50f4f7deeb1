"""Put results into words."""
