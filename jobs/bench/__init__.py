"""Benchmarks that print how they measure."""
