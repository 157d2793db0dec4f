"""Data-set level figures."""
