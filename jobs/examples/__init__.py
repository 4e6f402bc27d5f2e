"""Examples of what is done with a finished run."""
