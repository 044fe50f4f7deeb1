"""Speed, measured beside peers in one run: `make bench`. Not part of the tests."""
