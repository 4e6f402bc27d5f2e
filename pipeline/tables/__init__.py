"""Tables of an input, read as they are written."""
