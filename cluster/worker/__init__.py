"""An actor's work on a task; no Ray."""
