"""Execution of plans: in this process, or on Ray."""
