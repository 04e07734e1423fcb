"""Known interventions on a real model, predicted and measured: what docs/results.md is made of (`make scenarios`)."""
