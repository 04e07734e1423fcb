"""What the analyst says of a run: review verdicts, notes, tags, bookmarks and labels of their own.

    RUN/analyst.duckdb        written by the dashboard, read by the report; the pipeline never touches it

`reviews` folds the history of changes into what holds now, `history` keeps it on disk.
"""

from mneme.analyst.history import History
from mneme.analyst.reviews import VERDICTS, Change, Review, fold, review_status

__all__ = ["VERDICTS", "Change", "History", "Review", "fold", "review_status"]
