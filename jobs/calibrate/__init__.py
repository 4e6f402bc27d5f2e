"""Calibration of scores against rows whose edits are known to be good or bad."""
