"""Whether anything may be shown: Streamlit's settings are safe, and who asks may ask.

`workbench ui` sets all of it. Whoever starts Streamlit by hand is told what is missing.
"""

from __future__ import annotations

import hmac
import os

import streamlit as st

TOKEN = "WORKBENCH_TOKEN"  # noqa: S105 - the name of the variable
"""Environment variable with the token that an address other than this machine's asks for."""
LOCAL = ("127.0.0.1", "localhost", "::1")


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
    return not token or st.session_state.get(TOKEN) is True or _asked_for(token)


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
    """The token comes once in the address, which then forgets it, or by hand; the session remembers that it came."""
    given = st.query_params.get("token")
    if given is None:
        given = st.text_input("Token", type="password", help="It stands in the address that `workbench ui` printed.")
    if given and hmac.compare_digest(given.encode(), token.encode()):
        st.session_state[TOKEN] = True
        st.query_params.pop("token", None)
        st.rerun()
    if given:
        st.query_params.pop("token", None)
        st.error("That is not the token that `workbench ui` printed.")
    return False
