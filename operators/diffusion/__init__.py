"""The editing core: one denoising loop and the controls that plug into it."""
