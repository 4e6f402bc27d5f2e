"""Checks a run folder against its manifest, and repairs it."""
