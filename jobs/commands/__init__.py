"""The commands: words of the command line, nothing else."""
