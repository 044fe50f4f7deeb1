"""Domains: images of the same classes from different sources."""
