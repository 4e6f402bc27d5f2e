"""What a model sees of a source, and how its picture comes back."""
