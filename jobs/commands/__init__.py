"""Commands of the command line: their words and options, and what they print."""
