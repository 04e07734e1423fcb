"""Every live latent on a plane: near ones have similar decoders."""

import streamlit as st

from dashboard.components import charts, filters, narrow, plots, state, theme
from mneme.store.queries import latents as queries

HEIGHT = 590

run = state.need_run("Map", "attribution", "interpretation")
where = filters.filter_bar(run, "Map")
note, by = narrow.stacking("map").columns([3.2, 1], vertical_alignment="center")
note.caption(
    "UMAP of the decoder directions: neighbours mean similar directions, distances between islands nothing. "
    "Click a point to open it; scroll to zoom. Box select, in the tools at the right, keeps what is inside."
)
colour = by.segmented_control(
    "Colour by",
    ["verdict", "category"],
    default="verdict",
    required=True,
    key="colour",
    bind="query-params",
    label_visibility="collapsed",
    help=theme.HELP["category"],
)
data = plots.scatter_data(run, where, "umap_x", "umap_y")
if data is None:
    plots.nothing()
else:
    points, density, bounds = data
    if colour == "category":
        points = points.merge(queries.point_categories(run), on="latent", how="left").fillna({"grp": "none"})
        groups = list(points["grp"].value_counts().index[:7])
        figure = charts.group_scatter(
            points,
            groups,
            axes=("umap_x", "umap_y"),
            titles=("across", "up"),
            bounds=bounds,
            boxes=where.boxes,
            density=density,
            height=HEIGHT,
        )
    else:
        st.html(theme.legend(queries.verdict_counts(run, where)))
        figure = plots.map_figure(points, density, bounds, where, HEIGHT)
    plots.linked(figure, "map", "umap_x", "umap_y", "Map of the latents", charts.MAP_CONFIG)
    st.caption(
        f"{len(points):,} latents drawn"
        + (", all others as a grey density behind them." if density is not None else ".")
    )
