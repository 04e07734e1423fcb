"""What each stage does: it takes what the stages before left in the run's folder, and returns its tables.

A stage has no SQL and no maths: it calls its room and names the tables that the room's frames go to.
"""

from mneme.run.stages import (
    attribution,
    crosscoder,
    effects,
    findings,
    harvest,
    interpretation,
    labels,
    report,
    verdict,
)

STAGES = (
    harvest.STAGE,
    crosscoder.STAGE,
    attribution.STAGE,
    interpretation.STAGE,
    labels.STAGE,
    effects.STAGE,
    findings.STAGE,
    verdict.STAGE,
    report.STAGE,
)
"""In the order of the data flow."""
