"""Input tables from benchmarks of others, as these publish them."""
