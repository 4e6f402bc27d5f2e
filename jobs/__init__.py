"""The commands: what a user starts."""
