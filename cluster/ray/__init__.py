"""Runs tasks on Ray Data."""
