"""Every SQL query of the dashboard, as small functions: a Run in, a frame or a value out.

`latents` filters, counts and ranks them; `latent` reads one; `labels` says which label stands for it; `triage`
ranks what to review; `effects` the categories; `quality` health,
training and nulls; `overview` the first screen; `runs` the folder of runs. Values are always bound as
parameters; only names from fixed lists are written into a query.
"""
