"""What is done to a run: opened, executed, updated, redriven, replayed, accepted."""
