"""The filter of latents: widgets bound to the URL, shared by every page that lists latents."""

from __future__ import annotations

import math

import streamlit as st

from dashboard.components import narrow, review, search, theme, words
from dashboard.components.selection import read_ranges, write_ranges
from mneme.analyst import Review
from mneme.store.queries.effects import category_names
from mneme.store.queries.latents import FLAGS, SORTS, VERDICTS, LatentFilter
from mneme.store.run import Run

Q_STEPS = {"any": None, "0.001": 0.001, "0.01": 0.01, "0.05": 0.05, "0.1": 0.1}
REVIEWED = ("to do", "accept", "reject", "needs-work", "bookmark")
RATE_RANGE = (-6.0, 0.0)
RANGE_NAMES = {
    "delta_norm": "delta norm",
    "beta_base": "beta(b)",
    "beta_tuned": "beta(f)",
    "umap_x": "map, across",
    "umap_y": "map, up",
}


def filter_bar(run: Run, title: str) -> LatentFilter:
    """A page's title with the filter beside and below it; returns what the filter says."""
    head, category, find, within, more = narrow.stacking("filter", abreast=3).columns(
        [1.5, 1.9, 2.2, 1.2, 1.3], vertical_alignment="bottom"
    )
    head.title(title)
    with category:
        _category(run)
    with find:
        _find()
    with within:
        _within()
    with more.popover("More filters", width="stretch"):
        _rare()
    _verdicts()
    found = read_filter(run)
    _range_chips(found)
    return found


def filter_stack(run: Run) -> LatentFilter:
    """The same filter, one widget below the other, for a popover."""
    _verdicts()
    _category(run)
    _find()
    _within()
    _rare()
    return read_filter(run)


def read_filter(run: Run) -> LatentFilter:
    """The filter as the widgets' state has it, checked: a URL may hold anything."""
    state = st.session_state
    low, high = state.get("rate") or RATE_RANGE
    text = state.get("find") or ""
    among = search.found(run, state.get("in") or "", text)
    said = review.reviews(run)
    wanted = [w for w in state.get("said") or () if w in REVIEWED]
    reviewed, without = _said(said, wanted)
    return LatentFilter(
        verdicts=tuple(v for v in state.get("verdict") or () if v in VERDICTS),
        category=state.get("category"),
        q_max=Q_STEPS.get(state.get("q") or "any"),
        rate_min=None if low <= RATE_RANGE[0] else math.pow(10, low),
        rate_max=None if high >= RATE_RANGE[1] else math.pow(10, high),
        text="" if among is not None else text,
        also=tuple(j for j, r in said.items() if text and text.strip().lower() in r.label.lower()),
        among=among,
        reviewed=reviewed,
        without=without,
        flags=tuple(f for f in state.get("flag") or () if f in FLAGS),
        relabelled=tuple(j for j, r in said.items() if r.label),
        boxes=read_ranges(state.get("range")),
    )


def sort_choice() -> str:
    """The order in force; a link to a search that names none lists the best matches first."""
    if "sort" not in st.session_state and "sort" not in st.query_params and searched():
        st.session_state["sort"] = "match"
    sort = st.session_state.get("sort")
    return sort if sort in SORTS else "severity"


def searched() -> str:
    """The words of a search in contexts or by meaning, '' without one."""
    return str(st.session_state.get("find") or "") if st.session_state.get("in") in search.MODES[1:] else ""


def clear() -> None:
    """Everything passes again; a callback."""
    for key in ("verdict", "flag", "said"):
        st.session_state[key] = []
    st.session_state.update({"category": None, "find": "", "q": "any", "rate": RATE_RANGE, "range": ""})


def add_ranges(ranges: dict[str, tuple[float, float]]) -> None:
    """A box was drawn; a callback."""
    st.session_state["range"] = write_ranges({**read_ranges(st.session_state.get("range")), **ranges})


def _verdicts() -> None:
    # No format_func: what it gives would be what stands in the URL.
    st.pills(
        "Verdict",
        VERDICTS,
        selection_mode="multi",
        key="verdict",
        bind="query-params",
        label_visibility="collapsed",
    )


def _category(run: Run) -> None:
    names = category_names(run)
    st.selectbox(
        "Category",
        list(names),
        index=None,
        key="category",
        bind="query-params",
        format_func=lambda key: words.plain(names.get(key, key), 48),
        placeholder="all",
        help=theme.HELP["category"],
    )


def _find() -> None:
    st.text_input(
        "Find",
        key="find",
        bind="query-params",
        placeholder="word or number",
        max_chars=100,
        icon=":material/search:",
        on_change=_best_first,
    )


def _within() -> None:
    st.selectbox(
        "In", search.MODES, key="in", bind="query-params", help=search.EXPLAINED, on_change=_best_first
    )


def _best_first() -> None:
    """A new search lists its best matches first; a callback."""
    if searched():
        st.session_state["sort"] = "match"
    elif st.session_state.get("sort") == "match":
        st.session_state["sort"] = "severity"


def _said(said: dict[int, Review], wanted: list[str]) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """(only these, not these): latents of the review states asked for."""
    if not wanted:
        return None, ()

    def states(each: Review) -> set[str]:
        return {each.verdict or "to do"} | ({"bookmark"} if each.bookmark else set())

    if "to do" in wanted:  # most latents have no review: name those that don't pass
        return None, tuple(j for j, r in said.items() if not states(r) & set(wanted))
    return tuple(j for j, r in said.items() if states(r) & set(wanted)), ()


def _rare() -> None:
    st.select_slider(
        "q at most", list(Q_STEPS), value="any", key="q", bind="query-params", help=theme.HELP["q_value"]
    )
    st.slider(
        "Firing rate, powers of ten",
        *RATE_RANGE,
        value=RATE_RANGE,
        step=0.5,
        key="rate",
        bind="query-params",
        help=theme.HELP["firing_rate"] + " −3 is one token in a thousand.",
    )
    st.pills(
        "Flags (any of)",
        list(FLAGS),
        selection_mode="multi",
        key="flag",
        bind="query-params",
        help="  \n".join(f"**{flag}**: {theme.FLAGS[flag][1]}" for flag in FLAGS),
    )
    st.pills("Review (any of)", REVIEWED, selection_mode="multi", key="said", bind="query-params")
    st.text_input(
        "Ranges",
        key="range",
        bind="query-params",
        placeholder="delta_norm 0.2..0.4",
        help="A box drawn on a plot appears here; it can be typed too: delta_norm, beta_base, beta_tuned, "
        "umap_x or umap_y, then low..high; several with commas.",
    )
    st.button("Clear all filters", on_click=clear, icon=":material/filter_alt_off:", width="stretch")


def _drop_range(*axes: str) -> None:
    left = read_ranges(st.session_state.get("range"))
    for axis in axes:
        left.pop(axis, None)
    st.session_state["range"] = write_ranges(left)


def _range_chips(found: LatentFilter) -> None:
    if not found.boxes:
        return
    with st.container(horizontal=True, gap="small"):
        for axis, (low, high) in found.boxes.items():
            st.button(
                f"{RANGE_NAMES[axis]} {words.number(low)} to {words.number(high)}",
                key=f"drop_{axis}",
                icon=":material/close:",
                on_click=_drop_range,
                args=(axis,),
                help="A range from a box on a plot; press to remove it.",
            )
