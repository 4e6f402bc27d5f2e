"""Papercut: a drawn world of 64 px scenes in which the true result of every edit is known."""
