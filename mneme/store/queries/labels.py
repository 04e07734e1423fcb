"""Which of a latent's labels stands for it, and whether it is to be trusted: the same everywhere."""

UNRELIABLE = "coalesce(score <= score_shuffled, false)"
"""On held-out contexts the label does no better than other latents' labels do."""

ORDER = "coalesce(score, 0) + (method <> 'offline')::INT"
"""The largest is the best: a language model's before the offline ones, then by score."""

BEST_LABEL = (
    f"(SELECT *, {UNRELIABLE} AS unreliable FROM labels"
    f" QUALIFY row_number() OVER (PARTITION BY latent ORDER BY {ORDER} DESC, method) = 1)"
)
"""A table: the columns of `labels` and `unreliable`, a row a labelled latent."""
