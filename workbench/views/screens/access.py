"""Whether anything may be shown: Streamlit's settings are safe, and who asks may ask.

`workbench ui` sets all of it. Whoever starts Streamlit by hand is told what is missing.
"""

from __future__ import annotations

import os
import time

import streamlit as st

from workbench.views.screens import door
from workbench.views.screens.door import TOKEN

LOCAL = ("127.0.0.1", "localhost", "::1")
FORM = """<form method="post" style="display: flex; flex-wrap: wrap; gap: .6rem; align-items: center">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required style="font: inherit;
 padding: .3rem .5rem; border: 1px solid currentColor; border-radius: .4rem; background: transparent; color: inherit">
<button style="font: inherit; padding: .3rem .8rem; border: 1px solid currentColor; border-radius: .4rem;
 background: transparent; color: inherit; cursor: pointer">Open</button></form>"""
"""A form of the browser's own: its answer can set a cookie, which Streamlit's can't."""


def may_show() -> bool:
    """Says on the page why not, where nothing may be shown."""
    missing = unsafe_settings()
    if missing:
        st.error(
            f"Streamlit was started with unsafe settings: {'; '.join(missing)}. Start the app with `workbench ui`, "
            "which sets all of them."
        )
        return False
    token = os.environ.get(TOKEN, "")
    if not token or st.session_state.get(TOKEN) is True:
        return True
    if door.at_work and door.good_cookie(st.context.cookies.get(door.cookie_name(), ""), time.time()):
        st.session_state[TOKEN] = True
        return True
    return _asked_for(token)


def unsafe_settings() -> list[str]:
    """What is not as it must be, with the option that mends it."""
    found = []
    if st.get_option("browser.gatherUsageStats"):
        found.append("usage statistics are sent (`--browser.gatherUsageStats=false`)")
    if not st.get_option("server.enableXsrfProtection"):
        found.append("XSRF protection is off (`--server.enableXsrfProtection=true`)")
    if not st.get_option("server.enableCORS"):
        found.append("pages of other hosts may connect (`--server.enableCORS=true`)")
    if not st.get_option("client.disableDataExport"):
        found.append("tables could be saved with live formulas (`--client.disableDataExport=true`)")
    if st.get_option("server.address") not in LOCAL and not os.environ.get(TOKEN):
        found.append("other machines can reach it and no token is asked (`--server.address=127.0.0.1`)")
    return found


def _asked_for(token: str) -> bool:
    """Asks for the token. It comes in the address, which then forgets it, or by hand; behind the door the browser
    gets a cookie for it, else the session alone remembers that it came."""
    given = st.query_params.pop("token", None)
    if not door.at_work:
        typed = st.text_input("Token", type="password", help="It stands in the address that `workbench ui` printed.")
        given = typed or given
    if given and door.same(given, token):
        st.session_state[TOKEN] = True
        st.rerun()
    if given:
        st.error("That is not the token that `workbench ui` printed.")
    if door.at_work:
        st.html(FORM)
        st.caption("It stands in the address that `workbench ui` printed.")
    return False
