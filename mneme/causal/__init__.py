"""What latents do to predictions: their change patched out of the tuned model and into the base, beside controls."""
