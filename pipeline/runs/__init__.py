"""A run on storage: its folder, input, plan, tasks, manifest and lease."""
