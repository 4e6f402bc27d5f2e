"""Runs on storage: folder, record, input, plan, tasks, manifest, lease, and reuse."""
