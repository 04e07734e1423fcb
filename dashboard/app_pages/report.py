"""The report: preview and download."""

import streamlit as st

from dashboard.components import reports, review, state, words
from mneme.analyst import History

run = state.need_run("Report", "attribution")
st.title("Report")
st.caption(
    "Everything needed to defend the findings, in one file that opens anywhere: no network and no scripts. "
    "`mneme report` writes the same files into the run's folder."
)
said = len(review.reviewed(review.reviews(run)))
st.caption(
    f"**{words.number_of(said, 'reviewed latent')}**: what was said of them is under *The analyst's notes*."
    if said
    else "No latent is reviewed yet. The page Review leads through them; what you say becomes part of the report."
)
stamp = (run.database.stat().st_mtime_ns, *History(run.path).stamp())
built = reports.build(str(run.path), stamp)
if built is None:
    st.info("The report can't be built in this installation.", icon=":material/hourglass_empty:")
    st.code(f"mneme report {run.name}", language=None)
    st.stop()
with st.container(horizontal=True, gap="small"):
    for kind, (name, mime) in reports.KINDS.items():
        st.download_button(
            name,
            data=built[kind],
            file_name=f"mneme-report.{kind}",
            mime=mime,
            icon=":material/download:",
            on_click="ignore",
            key=f"download_{kind}",
        )
st.iframe(str(built["html"]), height=900, alt="Preview of the report")
