"""Papercut: a drawn world of 64 px cut-paper scenes in which every edit has a known true answer."""
