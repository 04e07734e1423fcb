"""What latents mean: contexts, logit lens, neighbours, map, labels and their held-out scores."""

from mneme.interpret.stage import Interpretation, interpret

__all__ = ["Interpretation", "interpret"]
