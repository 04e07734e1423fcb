"""What the analyst says of a run: review verdicts, notes, tags, bookmarks and labels of their own.

    RUN/analyst.duckdb        written by the dashboard, read by the report; the pipeline never touches it

`reviews` folds the history of changes into what holds now, `history` keeps it on disk, `older` reads the
files of earlier layouts.
"""

from mneme.analyst.history import History
from mneme.analyst.reviews import SIGNS, VERDICTS, Change, Review, fold

__all__ = ["SIGNS", "VERDICTS", "Change", "History", "Review", "fold"]
