"""What latents mean: contexts, logit lens, neighbours, map, labels and their held-out scores."""
