"""Runs: opened, executed, updated, redriven, replayed, accepted, counted."""
