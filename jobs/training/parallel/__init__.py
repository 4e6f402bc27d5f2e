"""Training of all papercut checkpoints in one command, in minutes of a GPU."""
