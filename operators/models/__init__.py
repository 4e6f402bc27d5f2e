"""Pretrained models: which weights, how they are loaded, what each one computes."""
