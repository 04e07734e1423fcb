"""The tables of the first release; what came since: schema.py."""

INITIAL = """
CREATE TABLE schema_version (version INTEGER);

CREATE TABLE run_info (key VARCHAR PRIMARY KEY, value VARCHAR);  -- see mneme/store/run.py: INFO_KEYS

CREATE TABLE stages (                -- what is done
    stage VARCHAR PRIMARY KEY,       -- harvest, crosscoder, attribution, interpretation, labels, effects, report
    fingerprint VARCHAR,             -- hash of the settings and inputs it was made from
    seconds DOUBLE,
    peak_memory_mb DOUBLE,           -- of the whole process, while it ran
    finished_at TIMESTAMP
);

CREATE TABLE documents (
    document INTEGER PRIMARY KEY,
    topic VARCHAR,                   -- what the corpus says it is about, or NULL
    n_tokens INTEGER,                -- all tokens read
    n_kept INTEGER,                  -- tokens whose activations were kept (no BOS, no attention sinks)
    preview VARCHAR                  -- its first 200 characters
);

CREATE TABLE training (              -- the crosscoder's loss curve, a row each few steps
    step INTEGER, tokens BIGINT, loss DOUBLE, aux_loss DOUBLE, l0 DOUBLE, k DOUBLE,
    explained_variance_base DOUBLE, explained_variance_tuned DOUBLE, dead_share DOUBLE, learning_rate DOUBLE
);

CREATE TABLE latents (
    latent INTEGER PRIMARY KEY,
    norm_base DOUBLE, norm_tuned DOUBLE,    -- decoder l2 norms
    delta_norm DOUBLE,                      -- 0 base only ... 0.5 shared ... 1 tuned only
    decoder_cosine DOUBLE,                  -- cos(d_j^b, d_j^t)
    probe VARCHAR,                          -- main probe: 'base' or 'tuned', the decoder with the larger norm
    beta_base DOUBLE, beta_tuned DOUBLE,    -- main probe, target 'error'
    nu_error DOUBLE, nu_reconstruction DOUBLE,  -- beta_base / beta_tuned, tuned probe (Minder et al. 2025)
    log_ratio DOUBLE,                       -- ln(|beta_tuned| / |beta_base|); redirected: along own decoders
    ci_low DOUBLE, ci_high DOUBLE,          -- 95% interval of log_ratio over documents
    p_value DOUBLE, q_value DOUBLE,         -- change beyond the margin; Benjamini-Hochberg over live latents
    beta_joint_base DOUBLE, beta_joint_tuned DOUBLE,  -- joint ridge solution, NULL for latents in no group
    vif DOUBLE,                             -- variance inflation factor within its group
    correlated_group INTEGER,               -- NULL: in no group
    split_half_base DOUBLE, split_half_tuned DOUBLE,  -- |beta_A - beta_B| between halves of the documents
    firing_rate DOUBLE,                     -- share of tokens it fires on
    n_active BIGINT,                        -- tokens it fires on
    n_documents INTEGER,                    -- documents it fires in
    mean_activation DOUBLE, max_activation DOUBLE,    -- where it fires
    kl DOUBLE,                              -- KL(base || tuned), firing-weighted mean over its tokens
    nll_change DOUBLE,                      -- tuned - base next-token NLL, the same mean
    severity DOUBLE,                        -- how much the latent moves: see docs/method.md
    stability DOUBLE,                       -- share of retrained dictionaries that find it again
    verdict VARCHAR,                        -- amplified, suppressed, unchanged, uncertain, dead
    redirected BOOLEAN,                     -- the two decoders point in other directions
    dead BOOLEAN, dense BOOLEAN,
    position_bound BOOLEAN,                 -- fires mostly at the first tokens of documents
    umap_x FLOAT, umap_y FLOAT
);

CREATE TABLE betas (                 -- every target and probe, long form
    latent INTEGER, probe VARCHAR, target VARCHAR, model VARCHAR,  -- probe, model: base | tuned
    beta DOUBLE                      -- target: error | reconstruction | activation
);

CREATE TABLE contexts (
    latent INTEGER, rank INTEGER,    -- 0 is the strongest in its quantile
    quantile INTEGER,                -- 0: the top contexts; 1..10: activation deciles, 10 the strongest
    split VARCHAR,                   -- 'train' (an explainer may see it) or 'test': split by document
    document INTEGER,
    position INTEGER,                -- index in the document of the strongest token
    start INTEGER,                   -- index in the document of tokens[1]
    tokens VARCHAR[], activations FLOAT[],
    kl FLOAT[], nll_change FLOAT[]   -- per token; NULL elements where not measured
);

CREATE TABLE activation_histogram (latent INTEGER, bin INTEGER, low DOUBLE, high DOUBLE, n BIGINT);

CREATE TABLE logit_lens (
    latent INTEGER, model VARCHAR,   -- base | tuned | difference (tuned - base)
    direction VARCHAR,               -- top | bottom
    rank INTEGER, token VARCHAR, logit DOUBLE
);

CREATE TABLE neighbours (
    latent INTEGER, kind VARCHAR,    -- decoder (cosine) | firing (correlation)
    rank INTEGER, neighbour INTEGER, similarity DOUBLE
);

CREATE TABLE labels (
    latent INTEGER, label VARCHAR,
    method VARCHAR,                  -- 'offline', or 'llm:MODEL'
    score DOUBLE,                    -- held-out detection, balanced accuracy; NULL: not scored
    score_shuffled DOUBLE,           -- the same with other latents' labels, their mean
    detail VARCHAR                   -- JSON: evidence, sentence, confidence, receipts
);

CREATE TABLE categories (
    category VARCHAR PRIMARY KEY, name VARCHAR, grp VARCHAR, domain VARCHAR, description VARCHAR,
    n_tokens BIGINT, n_documents INTEGER    -- corpus text assigned to it
);

CREATE TABLE latent_categories (latent INTEGER, category VARCHAR, weight DOUBLE);  -- sums to <= 1

CREATE TABLE document_categories (document INTEGER, category VARCHAR, weight DOUBLE);

CREATE TABLE effects (
    category VARCHAR PRIMARY KEY,
    effect DOUBLE,                   -- predicted size: see docs/method.md
    ci_low DOUBLE, ci_high DOUBLE,
    direction VARCHAR,               -- degraded | improved | none
    verdict VARCHAR,                 -- degraded | improved | unaffected | uncertain
    nll_change DOUBLE,               -- behaviour on the category's contexts, base -> tuned
    kl DOUBLE,
    amplified DOUBLE, suppressed DOUBLE,    -- parts of the effect
    n_tokens BIGINT, n_documents INTEGER
);

CREATE TABLE effect_latents (category VARCHAR, latent INTEGER, rank INTEGER, contribution DOUBLE);

CREATE TABLE baselines (category VARCHAR, method VARCHAR, value DOUBLE);  -- mean_kl, ...

CREATE TABLE outcomes (
    category VARCHAR, base DOUBLE, tuned DOUBLE, change DOUBLE,  -- NLL a token of the benchmark's text
    ci_low DOUBLE, ci_high DOUBLE,          -- 95% paired bootstrap interval of change
    accuracy_base DOUBLE, accuracy_tuned DOUBLE,
    n INTEGER,                              -- items
    source VARCHAR
);

CREATE TABLE evaluation (
    method VARCHAR,                  -- crosscoder | mean_kl | ...
    metric VARCHAR,                  -- pearson, spearman, auroc, ...
    subset VARCHAR,                  -- all | outside_forget
    value DOUBLE, ci_low DOUBLE, ci_high DOUBLE, n INTEGER
);

CREATE TABLE health (
    metric VARCHAR PRIMARY KEY, title VARCHAR, value DOUBLE, unit VARCHAR, threshold VARCHAR,
    status VARCHAR,                  -- ok | warn | fail | info
    advice VARCHAR
);

CREATE TABLE nulls (
    kind VARCHAR, n INTEGER, n_false INTEGER, rate DOUBLE, ci_low DOUBLE, ci_high DOUBLE,
    margin DOUBLE, detail VARCHAR
)
"""
