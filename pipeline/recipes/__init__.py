"""Recipes: plans as TOML files, and their JSON Schema."""
