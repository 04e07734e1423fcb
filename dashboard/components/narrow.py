"""Columns that become rows where the window is narrow: Streamlit itself waits until 640 pixels."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

_WIDTH = 1020  # pixels of the window, sidebar included


def stacking(key: str, *, abreast: int = 1) -> DeltaGenerator:
    """A container whose columns stand `abreast` in a row in a narrow window; not those of `side_by_side`."""
    box = st.container(key=f"stacking_{key}")
    box.html(
        f"<style>@media (max-width:{_WIDTH}px){{"
        ".st-key-stacking_"
        + key
        + f" [data-testid=stColumn]{{min-width:calc({100 / abreast:.4g}% - 1.5rem)}}"
        "[class*=st-key-beside_] [data-testid=stColumn]{min-width:6rem !important}"
        "}</style>"
    )
    return box


def side_by_side(key: str) -> DeltaGenerator:
    """A container inside a stacking one whose columns stay beside each other."""
    return st.container(key=f"beside_{key}")
