"""One text of the analyst's own through a run's pair and dictionary: what fires, and what the models make of it.

`Prober` (probe.py) needs torch; `job_files.py` holds the files through which a page and a worker process talk, and
needs nothing.
"""
