"""All latents: a filter, three linked plots, one table."""

import streamlit as st

from dashboard.components import filters, narrow, plots, search, state, tables, theme
from mneme.store.queries import latents as queries
from mneme.store.queries import quality

SHOWN = 1000

run = state.need_run("Latents", "attribution")
where = filters.filter_bar(run, "Latents")
found = queries.count(run, where)

mapped = "interpretation" in quality.finished_stages(run)
parts = narrow.stacking("latents", abreast=2).columns(3 if mapped else 2, gap="small")
with parts[0]:
    st.markdown("**Which model uses it**", help=theme.HELP["delta_norm"])
    plots.norms(run, where, key="latents_norms", height=250)
with parts[1]:
    st.markdown("**How much each has**", help=theme.HELP["beta"])
    plots.betas(run, where, key="latents_betas", height=250)
if mapped:
    with parts[2]:
        st.markdown("**Map of directions**", help="The page Map, small: near latents have similar decoders.")
        plots.map_of(run, where, key="latents_map", height=250)

filters.sort_choice()  # before its widget
st.html(theme.legend(queries.verdict_counts(run, where)))
count, order = st.columns([3, 1.2], vertical_alignment="bottom")
count.markdown(
    f"**{found:,}** latents" + (f", the first {SHOWN:,} in this order" if found > SHOWN else ""),
    help="Drag a box on a plot to keep what is inside it. Click a row to open the latent.",
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
    rows = queries.table(run, where, sort=filters.sort_choice(), limit=SHOWN)
    words = filters.searched()
    if words:
        rows = search.add_matches(run, rows, words)
    tables.latent_table(
        rows,
        [
            *[
                "latent",
                "verdict",
                *(["match"] if words else []),
                "label",
                "category",
                "log_ratio",
                "interval",
                "q_value",
                "firing_rate",
                "nll_change",
            ],
            *["delta_norm", "beta_base", "beta_tuned", "kl", "score"],
        ],
        key="latents_table",
        height=430,
        alt="Latents that pass the filter",
    )
else:
    st.button(
        "Clear all filters", on_click=filters.clear, key="clear_empty", icon=":material/filter_alt_off:"
    )
