"""Which latents were amplified, suppressed or left alone, and how sure that is."""
