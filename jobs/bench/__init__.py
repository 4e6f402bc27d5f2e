"""Benchmarks of what Overpaint costs and reaches; each prints how it measures."""
