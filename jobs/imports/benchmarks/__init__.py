"""The benchmarks whose folders can be read: one module each, found by its name."""

from overpaint.jobs.imports.benchmark import Benchmark
from overpaint.pipeline.catalogue import Catalogue

BENCHMARKS: Catalogue[Benchmark] = Catalogue(__name__, Benchmark, "benchmark")
"""Readers of benchmarks of image editing, in the layouts in which these are published."""
