"""The address of what is shown, to copy."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st


def address() -> str:
    """This view's whole address: the page and every query parameter."""
    parameters = [(key, value) for key in st.query_params for value in st.query_params.get_all(key)]
    # The path alone is st.context's; the parameters hold the view.
    return f"{st.context.url or ''}{'?' if parameters else ''}{urlencode(parameters)}"


def copy_link() -> None:
    """A button that opens the view's address, with a button that copies it."""
    with st.popover("Link", icon=":material/link:", help="The address of this view", width="stretch"):
        st.code(address(), language=None, wrap_lines=True)
        st.caption("The button at its corner copies it. It opens this run, page, filter and choice.")
