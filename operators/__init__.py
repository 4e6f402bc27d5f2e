"""The models: one module is one operator."""
