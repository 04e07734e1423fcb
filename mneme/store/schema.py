"""The tables of a run, as migrations: small named functions, applied in order, never edited once released.

Conventions: one row a thing; NULL is "not measured" or "undefined"; `base` and `tuned` always in that
order; activations, norms and betas in raw activation units; NLL, KL in nats; rates are shares in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from mneme.store.migrations_001_012 import FIRST_MIGRATIONS


def m013_artefacts(db: duckdb.DuckDBPyConnection) -> None:
    """What the files were that the tables were made from, so that changed ones are told before they are read."""
    db.execute(
        """
        CREATE TABLE artefacts (
            stage VARCHAR,                   -- that left the file
            file VARCHAR,                    -- below the run's folder, with slashes
            bytes BIGINT, sha256 VARCHAR,
            text VARCHAR                     -- of run.toml: what it said; else NULL
        )
        """
    )


def m014_uncertain_reasons(db: duckdb.DuckDBPyConnection) -> None:
    """Why a latent's verdict is uncertain; an end of its interval that the evidence doesn't bound is NULL."""
    # one of mneme/attribution/reasons.py; NULL for other verdicts
    db.execute("ALTER TABLE latents ADD COLUMN IF NOT EXISTS reason VARCHAR")
    # before, such an end stood at the cap of the log ratio
    db.execute("UPDATE latents SET ci_low = NULL WHERE ci_low <= -7")
    db.execute("UPDATE latents SET ci_high = NULL WHERE ci_high >= 7")


def m015_text_needed(db: duckdb.DuckDBPyConnection) -> None:
    """How much text would have found a change of the margin's size."""
    # times the run's text, of nll its measured text; NULL: not known, or none of those tried
    db.execute("ALTER TABLE power ADD COLUMN IF NOT EXISTS text_needed DOUBLE")


def m016_affected_share(db: duckdb.DuckDBPyConnection) -> None:
    """The share of a category's text that changed latents touch has one name; so has what was not intended."""
    for part in ("", "_low", "_high"):
        db.execute(f"ALTER TABLE effects RENAME COLUMN reach{part} TO affected_share{part}")
    db.execute("ALTER TABLE nulls RENAME COLUMN reach TO affected_share")
    db.execute("ALTER TABLE nulls RENAME COLUMN n_reached TO n_affected")
    db.execute("UPDATE health SET metric = 'null_affected_share' WHERE metric = 'null_reach'")
    db.execute("UPDATE evaluation SET subset = 'outside_intended' WHERE subset = 'outside_forget'")
    for table in ("baselines", "evaluation"):
        db.execute(
            f"UPDATE {table} SET method = 'activation_difference_share'"
            " WHERE method = 'activation_difference_reach'"
        )


def m017_redirected(db: duckdb.DuckDBPyConnection) -> None:
    """A latent whose direction turned has a verdict of its own; that its decoders point apart is another matter."""
    # the two decoders point in different directions: measured along each model's own
    db.execute("ALTER TABLE latents RENAME COLUMN redirected TO turned")
    # what earlier versions counted as changed beside amplified and suppressed ones, by the decoders alone
    db.execute(
        "UPDATE latents SET verdict = 'redirected', reason = NULL"
        " WHERE turned AND verdict IN ('unchanged', 'uncertain')"
    )


def m018_outcome_kinds(db: duckdb.DuckDBPyConnection) -> None:
    """Outcomes say what kind they are, and a category may have one of each benchmark."""
    for column in (
        "kind VARCHAR",  # nll | behaviour | capability: see mneme/effects/outcome_kinds.py
        "benchmark VARCHAR",  # short name; a category has one row of each
        "chance DOUBLE",  # accuracy of guessing, in [0, 1]; NULL: not known, or no question of right and wrong
        "chance_q DOUBLE",  # one-sided q of "the base does no better than chance", over the benchmark's categories
        "margin_base DOUBLE",  # mean nats by which the right answer leads the others' mean
        "margin_tuned DOUBLE",
        "margin_low DOUBLE",  # 95% paired bootstrap interval of margin_tuned - margin_base
        "margin_high DOUBLE",
    ):
        db.execute(f"ALTER TABLE outcomes ADD COLUMN IF NOT EXISTS {column}")
    db.execute(
        "UPDATE outcomes SET kind = CASE WHEN unit = 'error rate' THEN 'capability' ELSE 'nll' END,"
        " benchmark = 'outcomes'"
    )


def m019_turns(db: duckdb.DuckDBPyConnection) -> None:
    """The test of a latent's turn (mneme/attribution/turns.py); NULL: not tested."""
    for column in (
        "turn_cosine",  # of the directions that the latent has in the two models; above 1 by chance
        "turn_low",  # its 95% interval
        "turn_high",
        "turn_p",  # of "no lower than attribution.redirected_cosine"
        "turn_q",  # over all tests of strength and of direction
    ):
        db.execute(f"ALTER TABLE latents ADD COLUMN IF NOT EXISTS {column} DOUBLE")


def m020_seeds(db: duckdb.DuckDBPyConnection) -> None:
    """In how many of the dictionaries of other seeds a latent is found (mneme stability); NULL: not looked for."""
    for column in ("seeds_found INTEGER", "n_seeds INTEGER"):
        db.execute(f"ALTER TABLE latents ADD COLUMN IF NOT EXISTS {column}")


def m021_layer_profile(db: duckdb.DuckDBPyConnection) -> None:
    """What each layer shows of the pair's difference, measured on a few texts before the harvest."""
    db.execute(
        """
        CREATE TABLE layer_profile (         -- see mneme/harvest/layer_profile.py
            layer INTEGER PRIMARY KEY,
            changed BOOLEAN,                 -- whether its own parameters differ
            difference DOUBLE,               -- |tuned - base| / |base| of the streams after it
            restored DOUBLE, restored_low DOUBLE, restored_high DOUBLE,
                                             -- share of KL(base || tuned) that the tuned stream gives the base, 95%;
                                             -- NULL: not measured
            exact BOOLEAN,                   -- known by construction, not measured
            kl DOUBLE,                       -- of the texts, nats per token
            n_documents INTEGER, n_tokens INTEGER
        )
        """
    )


def m022_power_retrained(db: duckdb.DuckDBPyConnection) -> None:
    """What a dictionary trained anew on displaced activations finds (`mneme power RUN --retrain`)."""
    db.execute(
        """
        CREATE TABLE power_retrained (       -- a row a size; see mneme/run/power_retrain.py
            category VARCHAR,
            size DOUBLE,                     -- of the displacement, share of typical deviation
            called INTEGER,                  -- changed latents
            cosine DOUBLE,                   -- the largest of a called latent's change and the displacement
            affected_share DOUBLE, affected_share_low DOUBLE, affected_share_high DOUBLE,  -- of the category's text
            found BOOLEAN
        )
        """
    )


def m023_findings(db: duckdb.DuckDBPyConnection) -> None:
    """Sets of changed latents that do one thing (mneme/findings)."""
    db.execute(
        """
        CREATE TABLE findings (
            finding VARCHAR,                 -- its id: made of its latents and what the dictionary holds of them
            parent VARCHAR,                  -- NULL; else the finding that this is a part of, split by firing
            "rank" INTEGER,                  -- 0 explains most; of parts: within the finding
            name VARCHAR, name_method VARCHAR, name_detail VARCHAR,  -- as label, method and detail of `labels`
            n_latents INTEGER,               -- its own members
            explained DOUBLE,                -- share of all squared difference that it explains by itself
            share DOUBLE,                    -- its part of what all changed latents explain; NULL: they explain nothing
            dimensions INTEGER,              -- principal directions that hold 90% of its squared displacement
            main_share DOUBLE,               -- of its squared displacement along the first of them
            firing_rate DOUBLE,              -- share of tokens it moves
            displacement DOUBLE,             -- mean over tokens, of the base's typical deviation
            affected_share DOUBLE, affected_share_low DOUBLE, affected_share_high DOUBLE,  -- of all text
            nll_change DOUBLE, nll_low DOUBLE, nll_high DOUBLE,  -- where it moves tokens, weighted by how far
            kl DOUBLE,
            profile DOUBLE[],                -- mean displacement of documents, the most displaced first
            seeds_found INTEGER, n_seeds INTEGER  -- NULL: not tested
        );
        CREATE TABLE finding_latents (
            finding VARCHAR, latent INTEGER, "rank" INTEGER,
            home BOOLEAN,                    -- false: a member of another finding whose change is this one's as well
            correlation DOUBLE,              -- of its predicted change with that of the other members
            share DOUBLE                     -- its part of what all changed latents explain
        );
        CREATE TABLE finding_categories (
            finding VARCHAR, category VARCHAR,
            affected_share DOUBLE, affected_share_low DOUBLE, affected_share_high DOUBLE,
            displacement DOUBLE
        );
        CREATE TABLE finding_contexts (      -- as `contexts`; activations are displacements, raw units
            finding VARCHAR, "rank" INTEGER, split VARCHAR, document INTEGER, position INTEGER, start INTEGER,
            tokens VARCHAR[], activations FLOAT[], kl FLOAT[], nll_change FLOAT[]
        );
        CREATE TABLE finding_lens (          -- its main direction through the tuned model's head
            finding VARCHAR, direction VARCHAR, "rank" INTEGER, token VARCHAR, logit DOUBLE
        );
        CREATE TABLE causal_findings (       -- `mneme causal`: as `causal`, of each finding's change
            finding VARCHAR, patch VARCHAR,
            source VARCHAR,                  -- finding, pca, random latents, random direction, other findings
            n_documents INTEGER, n_tokens BIGINT,
            kl_before DOUBLE, kl_after DOUBLE, kl_share DOUBLE, kl_low DOUBLE, kl_high DOUBLE,
            nll_before DOUBLE, nll_after DOUBLE, nll_share DOUBLE, nll_low DOUBLE, nll_high DOUBLE,
            of_pca DOUBLE, of_pca_low DOUBLE, of_pca_high DOUBLE  -- what the finding undoes, over what pca does
        )
        """
    )


def m024_read_outs(db: duckdb.DuckDBPyConnection) -> None:
    """Dictionaries of one model alone, read on each (mneme/run/read_out.py)."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS read_outs ("
        "dictionary VARCHAR PRIMARY KEY,"  # base | tuned: the model it was trained on
        " n_latents INTEGER, explained_variance_base DOUBLE, explained_variance_tuned DOUBLE,"
        " common_scale DOUBLE,"  # tuned over base, of what most latents share
        " margin DOUBLE,"  # natural log
        " null_n INTEGER, null_n_false INTEGER, null_rate DOUBLE, null_ci_low DOUBLE, null_ci_high DOUBLE,"
        " detail VARCHAR)"
    )
    db.execute(
        "CREATE TABLE IF NOT EXISTS read_out_latents ("
        "dictionary VARCHAR, latent INTEGER, verdict VARCHAR, reason VARCHAR,"
        " log_ratio DOUBLE, ci_low DOUBLE, ci_high DOUBLE, q_value DOUBLE, beta_base DOUBLE, beta_tuned DOUBLE,"
        " severity DOUBLE, firing_rate DOUBLE, mean_activation DOUBLE, n_documents INTEGER,"
        " dense BOOLEAN, position_bound BOOLEAN, label VARCHAR)"
    )
    db.execute(
        "CREATE TABLE IF NOT EXISTS read_out_contexts ("  # of changed latents
        "dictionary VARCHAR, latent INTEGER, rank INTEGER, document INTEGER, position INTEGER, start INTEGER,"
        " tokens VARCHAR[], activations FLOAT[])"
    )


MIGRATIONS: list[Callable[[duckdb.DuckDBPyConnection], None]] = [
    *FIRST_MIGRATIONS,
    m013_artefacts,
    m014_uncertain_reasons,
    m015_text_needed,
    m016_affected_share,
    m017_redirected,
    m018_outcome_kinds,
    m019_turns,
    m020_seeds,
    m021_layer_profile,
    m022_power_retrained,
    m023_findings,
    m024_read_outs,
]
SCHEMA_VERSION = len(MIGRATIONS)
