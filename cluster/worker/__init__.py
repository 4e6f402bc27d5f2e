"""Work of one actor on a task; no Ray."""
