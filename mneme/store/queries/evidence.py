"""What a run's verdict rests on, from its tables, and the facts that the verdict leaves in `run_info`."""

from __future__ import annotations

import json
import math

from mneme.effects.config import EffectsConfig
from mneme.store.queries.outcomes import PRIMARY_OUTCOMES
from mneme.store.queries.quality import null_rate
from mneme.store.run import Run
from mneme.verdict.calls import with_calls
from mneme.verdict.evidence import Evidence
from mneme.verdict.run_verdict import run_verdict


def verdict_facts(run: Run, config: EffectsConfig, behaviour_share: float) -> dict[str, str]:
    """run_verdict, verdict_sentence, verdict_reasons and verdict_command of `run_info`.

    config, behaviour_share: the run's own settings.
    """
    said = run_verdict(evidence(run, config, behaviour_share))
    return {
        "run_verdict": said.verdict,
        "verdict_sentence": said.sentence,
        "verdict_reasons": json.dumps(said.reasons, ensure_ascii=False),
        "verdict_command": said.command,
    }


def evidence(run: Run, config: EffectsConfig, behaviour_share: float) -> Evidence:
    """Read what the verdict rests on; of a run whose effects are done."""
    info = run.info()
    table = run.sql(
        "SELECT e.*, coalesce(k.name, e.category) AS name, k.grp, o.change, o.ci_low AS change_low,"
        " o.ci_high AS change_high, o.unit, coalesce(o.proven, true) AS proven"
        " FROM effects e LEFT JOIN categories k USING (category)"
        f" LEFT JOIN {PRIMARY_OUTCOMES} o USING (category)"
    )
    nulls = run.rows("SELECT max(kl) FROM nulls")[0][0]
    return Evidence(
        effects=with_calls(table, config.nll_margin),
        latents=run.sql("SELECT verdict FROM latents"),
        tokens=int(info.get("n_tokens", 0)),
        margin=config.nll_margin,
        nll=(_number(info, "nll_change"), _number(info, "nll_low"), _number(info, "nll_high")),
        common=float(info.get("nll_common", 0.0)),
        own_text=info.get("base") == "bundled:base" and info.get("corpus", "").startswith("bundled"),
        kl=_number(info, "mean_kl"),
        kl_margin=config.kl_margin if nulls is None else float(nulls),
        power=run.sql("SELECT * FROM power"),
        explained=_health(run, "difference_explained"),
        rank=_health(run, "difference_rank"),
        failed=tuple(
            t for (t,) in run.rows("SELECT title FROM health WHERE status = 'fail' ORDER BY metric")
        ),
        layer_shows=_layer_shows(run),
        null_rate=null_rate(run),
        min_documents=config.min_documents,
        behaviour_share=behaviour_share,
        folder=str(run.path),
    )


def _health(run: Run, metric: str) -> float:
    """A check's value; NaN where it has none."""
    found = run.rows("SELECT value FROM health WHERE metric = ?", [metric])
    return float(found[0][0]) if found and found[0][0] is not None else math.nan


def _layer_shows(run: Run) -> bool:
    """Whether the streams can differ at the layer that was read; True where the run does not say."""
    try:
        index = json.loads((run.path / "activations" / "index.json").read_text(encoding="utf-8"))
        return int(index["n_shared_layers"]) <= int(index["layer"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _number(info: dict[str, str], key: str) -> float:
    return float(info[key]) if key in info else math.nan
