"""The queue of latents to review: what most hangs on, and is least settled, first."""

import streamlit as st

from dashboard.components import narrow, review, state, tables, theme
from mneme.store.queries import triage

SHOWN = 500
SHOW = ("to do", "accept", "reject", "needs-work", "bookmark", "all")

run = state.need_run("Review", "attribution")
head, who = st.columns([4, 1.3], vertical_alignment="bottom")
head.title("Review")
if not st.session_state.get("analyst"):
    st.session_state["analyst"] = review.default_author()
who.text_input(
    "You are", key="analyst", max_chars=40, help="Kept with all you say. Undo takes back only your own."
)
found = review.reviews(run)
review.show_problem()
done = review.reviewed(found)
n = triage.progress(run, done)
share = n["changed_done"] / n["changed"] if n["changed"] else 1.0
bar, begin = narrow.stacking("review").columns([4, 1.3], vertical_alignment="center")
bar.progress(
    share,
    text=f"**{n['changed_done']:,} of {n['changed']:,}** changed latents reviewed · "
    f"{n['uncertain_done']:,} of {n['uncertain']:,} uncertain ones",
)
first = triage.following(run, done)
begin.button(
    "Review the first" if not done else "Go on reviewing",
    icon=":material/play_arrow:",
    type="primary",
    width="stretch",
    disabled=first is None,
    on_click=state.open_latent,
    args=(first,),
    shortcut="N",
)

shown = st.segmented_control(
    "Show",
    SHOW,
    default=SHOW[0],
    required=True,
    key="reviewed",
    bind="query-params",
    label_visibility="collapsed",
)
shown = shown if shown in SHOW else SHOW[0]
if shown == "to do":
    frame = triage.queue(run, without=done, limit=SHOWN)
elif shown == "all":
    frame = triage.queue(run, limit=SHOWN)
else:
    kept = [k for k, r in found.items() if (r.bookmark if shown == "bookmark" else r.verdict == shown)]
    frame = triage.queue(run, only=kept, limit=SHOWN)
if frame.empty:
    st.info(
        "Everything in the queue is reviewed." if shown == "to do" else "No latent has this review state.",
        icon=":material/check:",
    )
    st.stop()
st.caption(
    "By severity times uncertainty; changed latents (amplified, suppressed or redirected) "
    "before uncertain ones. Click a row to open the latent; there the "
    "keys **1** accept, **2** reject, **3** needs work, **4** clear, **B** bookmark, **U** undo, **N** next to do."
    + (f" The first {SHOWN:,} are listed." if len(frame) == SHOWN else ""),
    help=theme.HELP["priority"],
)
frame["priority"] *= 100 / max(float(frame["priority"].max()), 1e-12)
tables.latent_table(
    frame,
    ["latent", "verdict", "label", "category", "priority", "interval", "severity", "log_ratio"],
    key="review_table",
    height=430,
    alt="Latents to review",
)
