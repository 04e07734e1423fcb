"""Findings: sets of changed latents that do one thing, each measured as one change of the tuned model."""
