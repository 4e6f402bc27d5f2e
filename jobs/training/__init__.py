"""Training of the papercut checkpoints: one module a checkpoint, on one shared loop."""
