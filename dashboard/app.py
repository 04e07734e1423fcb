"""The dashboard's entry: the pages, the sidebar, the chosen run.

MNEME_RUNS=runs streamlit run dashboard/app.py        (what `mneme dashboard` does)
"""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the path, not the repository above it.
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from dashboard.components import links, state, words  # noqa: E402

st.set_page_config(
    page_title="mneme", page_icon=str(HERE / "icon.svg"), layout="wide", initial_sidebar_state=230
)

st.html(HERE / "page.css")

# Files of our own: a Material icon here would be fetched from the network.
st.logo(str(HERE / "logo.svg"), icon_image=str(HERE / "icon.svg"), size="large")

PAGES = {
    "Findings": [
        st.Page(
            "app_pages/overview.py",
            title="Overview",
            icon=":material/flag:",
            default=True,
            help="What changed, in one screen.",
        ),
        st.Page(
            "app_pages/side_effects.py",
            title="Side effects",
            icon=":material/balance:",
            help="Predicted changes by subject area, beside the measured ones.",
        ),
        st.Page(
            "app_pages/latents.py",
            title="Latents",
            icon=":material/scatter_plot:",
            help="Filter, brush and sort all latents.",
        ),
        st.Page(
            "app_pages/latent.py",
            title="Latent",
            icon=":material/center_focus_strong:",
            help="One latent, down to its tokens.",
        ),
        st.Page(
            "app_pages/map.py",
            title="Map",
            icon=":material/map:",
            help="All latents, near ones close together.",
        ),
        st.Page(
            "app_pages/review.py",
            title="Review",
            icon=":material/checklist:",
            help="What to look at first, and what has been said of it.",
        ),
    ],
    "Evidence": [
        st.Page(
            "app_pages/evidence.py",
            title="Evidence",
            icon=":material/fact_check:",
            help="Which layer shows the change, and what has been tested.",
        ),
        st.Page(
            "app_pages/health.py",
            title="Health",
            icon=":material/monitor_heart:",
            help="How far this run can be trusted.",
        ),
        st.Page(
            "app_pages/report.py", title="Report", icon=":material/description:", help="Preview and download."
        ),
    ],
    "Work": [
        st.Page(
            "app_pages/try_text.py",
            title="Try text",
            icon=":material/edit_note:",
            help="Your own text through both models.",
        ),
        st.Page(
            "app_pages/compare.py",
            title="Compare",
            icon=":material/compare_arrows:",
            help="Two runs side by side.",
        ),
        st.Page(
            "app_pages/runs.py",
            title="Runs",
            icon=":material/folder_open:",
            help="Choose, start and cancel runs.",
        ),
    ],
}

page = st.navigation(PAGES)
state.choose_run()
link = st.sidebar.empty()
with link.container():  # a page that ends early with st.stop() draws nothing after it
    links.copy_link()
if (run := state.current_run()) is not None:
    info = run.info()
    with st.sidebar:
        st.caption(
            f"base **{words.markdown(info.get('base'), 44)}**  \n"
            f"tuned **{words.markdown(info.get('tuned'), 44)}**  \n"
            f"layer {words.markdown(info.get('layer'), 8)}, "
            f"{words.count(info.get('latents'))} latents, {words.count(info.get('n_tokens'))} tokens"
        )
        if info.get("synthetic") == "true":
            st.warning("Made-up numbers, for trying the dashboard.", icon=":material/science:")
with st.sidebar:  # at its end, where nothing that is seen takes a line more
    script = (HERE / "history.js").read_text(encoding="utf-8")  # our own file: nothing of a run is in it
    st.html(f"<script>{script}</script>", unsafe_allow_javascript=True)
try:
    page.run()
finally:  # after the page: its widgets have put their choices into the address by then
    with link.container():
        links.copy_link()
