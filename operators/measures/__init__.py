"""Figures and words that compare pictures and texts; no models."""
