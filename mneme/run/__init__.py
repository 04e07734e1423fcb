"""A run from settings to report: its stages, what they share, and what is done to a finished run."""
