"""Training of the papercut checkpoints: one file a checkpoint, on one shared loop."""
