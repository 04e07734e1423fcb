"""The first twelve migrations of a run's tables; the later ones, and all in order: schema.py."""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from mneme.store.initial import INITIAL


def m001_initial(db: duckdb.DuckDBPyConnection) -> None:
    """Everything of the first release."""
    db.execute(INITIAL)


def m002_labels_stage(db: duckdb.DuckDBPyConnection) -> None:
    """Labels are a stage of their own; those made before were made by the interpretation."""
    db.execute(
        """
        CREATE TABLE label_failures (        -- labels that were asked of a model and did not come
            latent INTEGER, method VARCHAR, reason VARCHAR
        );
        INSERT INTO stages (stage, fingerprint, finished_at)
        SELECT 'labels', fingerprint, finished_at FROM stages
        WHERE stage = 'interpretation' AND EXISTS (FROM labels)
        """
    )


def m003_label_scores(db: duckdb.DuckDBPyConnection) -> None:
    """What each label gets in each test, and the windows it was judged on."""
    db.execute(
        """
        ALTER TABLE labels ADD COLUMN gain_low DOUBLE;  -- lower end of the 95% interval of score - score_shuffled
        CREATE TABLE label_scores (          -- held-out documents; see docs/method.md
            latent INTEGER, method VARCHAR,  -- of `labels`
            scorer VARCHAR,                  -- encoder | local:MODEL | llm:MODEL
            test VARCHAR,                    -- detection | fuzzing
            negatives VARCHAR,               -- random | hard
            balanced_accuracy DOUBLE, ci_low DOUBLE, ci_high DOUBLE,  -- 95%, documents resampled
            f1 DOUBLE, auprc DOUBLE,         -- both sides weighing the same
            shuffled DOUBLE,                 -- balanced accuracy of other latents' labels, their mean
            gain_low DOUBLE,                 -- lower end of the 95% interval of balanced_accuracy - shuffled
            n_positive INTEGER, n_negative INTEGER
        );
        CREATE TABLE label_examples (        -- some of the windows it was judged on
            latent INTEGER, method VARCHAR, scorer VARCHAR, test VARCHAR, negatives VARCHAR,
            "window" INTEGER,                -- of label_windows
            positive BOOLEAN, judged BOOLEAN,  -- the truth, and what the scorer said
            fit DOUBLE,                      -- NULL where it only said yes or no
            marked VARCHAR                   -- fuzzing: the words that were marked
        );
        CREATE TABLE label_windows ("window" INTEGER, document INTEGER, position INTEGER, text VARCHAR);
        CREATE TABLE label_summary (         -- means over latents
            method VARCHAR, scorer VARCHAR, test VARCHAR, negatives VARCHAR,
            labels VARCHAR,                  -- own | shuffled | random latent
            balanced_accuracy DOUBLE, ci_low DOUBLE, ci_high DOUBLE, f1 DOUBLE, auprc DOUBLE, n INTEGER
        )
        """
    )


def m004_outcome_units(db: duckdb.DuckDBPyConnection) -> None:
    """Outcomes say their unit, and what became of the answers."""
    for column in (
        "accuracy_low DOUBLE",  # 95% paired bootstrap interval of the change of accuracy
        "accuracy_high DOUBLE",
        "answer_base DOUBLE",  # NLL of the right answer, nats
        "answer_tuned DOUBLE",
        "unit VARCHAR",  # of base, tuned, change: 'nats', or 'error rate' where only accuracy is known
    ):
        db.execute(f"ALTER TABLE outcomes ADD COLUMN {column}")
    db.execute("UPDATE outcomes SET unit = 'nats'")


def m005_label_comparison(db: duckdb.DuckDBPyConnection) -> None:
    """Explainers compared on the same latents."""
    db.execute(
        """
        CREATE TABLE label_comparison (
            method VARCHAR, n_asked INTEGER, n_labelled INTEGER,
            n_scored INTEGER,                -- latents that every method with labels has a score on
            score DOUBLE, ci_low DOUBLE, ci_high DOUBLE, score_shuffled DOUBLE,  -- means over those
            tokens BIGINT,                   -- prompt and reply, whenever they were paid
            money DOUBLE,                    -- NULL: no price is known
            seconds DOUBLE                   -- of the requests, one after the other
        );
        CREATE TABLE label_agreement (
            method VARCHAR, other VARCHAR, n INTEGER,    -- latents that both labelled
            cosine DOUBLE,                   -- of the labels' embeddings, mean
            same_category DOUBLE             -- share whose labels are nearest to the same category
        )
        """
    )


def m006_beta_intervals(db: duckdb.DuckDBPyConnection) -> None:
    """95% intervals of beta over documents, where they are known: error target, the probe of the verdict."""
    db.execute(
        "ALTER TABLE betas ADD COLUMN IF NOT EXISTS ci_low DOUBLE;"
        " ALTER TABLE betas ADD COLUMN IF NOT EXISTS ci_high DOUBLE"
    )


def m007_effect_parts(db: duckdb.DuckDBPyConnection) -> None:
    """How much of a category's text is reached, how much of its change is explained, and by which kind of latents."""
    for column in ("reach DOUBLE", "reach_low DOUBLE", "reach_high DOUBLE", "explained DOUBLE"):
        db.execute(f"ALTER TABLE effects ADD COLUMN {column}")
    # grp: of `categories`, where the latents belong most
    db.execute("CREATE TABLE effect_groups (category VARCHAR, grp VARCHAR, contribution DOUBLE)")


def m008_causal(db: duckdb.DuckDBPyConnection) -> None:
    """What latents do to the predictions, by patching (mneme causal)."""
    db.execute(
        """
        CREATE TABLE causal (                -- KL(base || tuned) and NLL tuned - base, one of the two patched
            latent INTEGER,                  -- NULL: all changed latents together
            patch VARCHAR,                   -- undo (in the tuned model) | do (in the base)
            source VARCHAR,                  -- latent, latents, or what they are held against: see docs/method.md
            n_latents INTEGER, n_documents INTEGER, n_tokens BIGINT,
            kl_before DOUBLE, kl_after DOUBLE,    -- nats per token
            kl_share DOUBLE, kl_low DOUBLE, kl_high DOUBLE,  -- 1 - after / before, 95%; NULL: before may be nothing
            nll_before DOUBLE, nll_after DOUBLE, nll_share DOUBLE, nll_low DOUBLE, nll_high DOUBLE,
            gain DOUBLE, gain_low DOUBLE, gain_high DOUBLE   -- kl_share beyond the control's
        );
        CREATE TABLE causal_ablations (      -- the latent taken out of one model
            latent INTEGER, model VARCHAR,   -- base | tuned
            n_documents INTEGER, n_tokens BIGINT,
            kl DOUBLE, kl_low DOUBLE, kl_high DOUBLE,        -- KL(model || model without it), nats per token
            nll DOUBLE, nll_low DOUBLE, nll_high DOUBLE      -- rise of next-token NLL
        )
        """
    )


def m009_effect_reasons(db: duckdb.DuckDBPyConnection) -> None:
    """Why a category's verdict is uncertain."""
    db.execute("ALTER TABLE effects ADD COLUMN reason VARCHAR")  # see verdict/vocabulary.py


def m010_null_reach(db: duckdb.DuckDBPyConnection) -> None:
    """How many categories the latents called in a null pair reach."""
    for column in (
        "n_categories INTEGER",
        "n_reached INTEGER",
        "reach DOUBLE",
    ):  # reach: see effects/null_affected_share.py
        db.execute(f"ALTER TABLE nulls ADD COLUMN {column}")


def m011_power(db: duckdb.DuckDBPyConnection) -> None:
    """The positive control: what this run could have found."""
    db.execute(
        """
        CREATE TABLE power (                 -- see mneme/power; NULL at_margin: not measured
            category VARCHAR,                -- NULL: over all categories
            channel VARCHAR,                 -- latents | activations | nll
            unit VARCHAR,                    -- of margin and minimum_detectable
            margin DOUBLE,                   -- the size that the verdict's margin asks for
            minimum_detectable DOUBLE,       -- smallest size found in 80% of injections; NULL: none of those tried is
            at_margin DOUBLE,                -- chance to find a change of the margin's size, in [0, 1]
            n_cases INTEGER,                 -- injections of one size
            reason VARCHAR                   -- why it was not measured; else NULL
        )
        """
    )


def m012_verdicts(db: duckdb.DuckDBPyConnection) -> None:
    """A category's verdict rests on intervals; the run's verdict is one of a few words (mneme/_util/vocabulary.py).

    What an earlier version said of the whole run is taken back: its all-clear was not earned.
    """
    for column in (
        "effects ADD COLUMN nll_low DOUBLE",  # 95% interval of nll_change, over documents
        "effects ADD COLUMN nll_high DOUBLE",
        "effects ADD COLUMN shown_by VARCHAR",  # of degraded | improved: latents | not localised at this layer
        "effects ADD COLUMN intended BOOLEAN",  # whether the tuning was meant to change it
        "nulls ADD COLUMN kl DOUBLE",  # mean KL(base || tuned) of the null pair, nats per token
        "nulls ADD COLUMN nll_change DOUBLE",
    ):
        db.execute(f"ALTER TABLE {column}")
    db.execute(
        """
        UPDATE effects SET reason = CASE
            WHEN reason IS NULL OR reason = 'too little text' THEN reason
            WHEN reason = 'predictions not measured' THEN 'not measured' ELSE 'interval too wide' END;
        UPDATE effects SET verdict = 'not known' WHERE verdict = 'uncertain';
        DELETE FROM run_info WHERE key IN ('verdict_sentence', 'side_effect')
        """
    )


FIRST_MIGRATIONS: list[Callable[[duckdb.DuckDBPyConnection], None]] = [
    m001_initial,
    m002_labels_stage,
    m003_label_scores,
    m004_outcome_units,
    m005_label_comparison,
    m006_beta_intervals,
    m007_effect_parts,
    m008_causal,
    m009_effect_reasons,
    m010_null_reach,
    m011_power,
    m012_verdicts,
]
