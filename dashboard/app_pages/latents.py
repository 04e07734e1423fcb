"""All latents: a filter, two linked plots, one table."""

import streamlit as st

from dashboard.components import filters, looks, plots, state, tables
from mneme.store.queries import latents as queries

SHOWN = 1000

run = state.need_run("Latents", "attribution")
where = filters.filter_bar(run, "Latents")
found = queries.count(run, where)

left, right = st.columns(2, gap="medium")
with left:
    st.markdown("**Which model uses each latent**", help=looks.HELP["delta_norm"])
    plots.norms(run, where, key="latents_norms", height=270)
with right:
    st.markdown("**How much of it each model contains**", help=looks.HELP["beta"])
    plots.betas(run, where, key="latents_betas", height=270)

st.html(looks.legend(queries.verdict_counts(run, where)))
count, order = st.columns([3, 1.2], vertical_alignment="bottom")
count.markdown(
    f"**{found:,}** latents" + (f", the first {SHOWN:,} in this order" if found > SHOWN else ""),
    help="Drag a box on a plot to keep what is inside it. Tick a row to open the latent.",
)
order.selectbox(
    "Order",
    list(queries.SORTS),
    key="sort",
    bind="query-params",
    format_func=lambda key: queries.SORTS[key][0],
    label_visibility="collapsed",
)
if found:
    tables.latent_table(
        queries.table(run, where, sort=filters.sort_choice(), limit=SHOWN),
        [
            *["latent", "verdict", "label", "category", "log_ratio", "interval", "q_value", "delta_norm"],
            *["beta_base", "beta_tuned", "firing_rate", "kl", "nll_change", "score"],
        ],
        key="latents_table",
        height=430,
        alt="Latents that pass the filter",
    )
else:
    st.button(
        "Clear all filters", on_click=filters.clear, key="clear_empty", icon=":material/filter_alt_off:"
    )
