"""What `mneme dashboard` starts: the app behind its assets, warm before the first visit.

MNEME_RUNS=runs streamlit run dashboard/serve.py        (`dashboard/app.py` alone works too, a little slower at first)
"""

import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

# Streamlit puts this file's folder on the path, not the repository above it.
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from dashboard.assets import Assets  # noqa: E402
from dashboard.warm import warming  # noqa: E402

app = st.App(HERE / "app.py", middleware=[Middleware(Assets)], lifespan=warming)
