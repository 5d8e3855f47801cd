"""The app's screens, one a file. What a model wrote is shown as text; on demand as Markdown (`page.safe_markdown`).

This module is their frame: it refuses unsafe settings, shows the sidebar and runs the screen that the address names.
"""

from __future__ import annotations

import streamlit as st

from workbench.views.screens import compare, journey, judge, models, playground, prompts, runs, sweep
from workbench.views.screens.access import may_show
from workbench.views.screens.broken import tell_broken
from workbench.views.screens.page import SCREENS
from workbench.views.screens.sidebar import sidebar
from workbench.views.screens.typed import send_while_typing

PAGES = {
    "journey": ("Journey", journey.show),
    "prompts": ("Prompts", prompts.show),
    "playground": ("Playground", playground.show),
    "sweep": ("Sweep", sweep.show),
    "compare": ("Compare", compare.show),
    "judge": ("Judge by eye", judge.show),
    "models": ("Models", models.show),
    "runs": ("Runs", runs.show),
}
"""Screen, as the address names it → its title and its page, in the order of a day's work.

Without icons: Streamlit would fetch the page's icon for the browser's tab from a host of Google's."""

STYLE = """<style>
[data-testid=stMainBlockContainer] { padding-top: 2.5rem }
[data-testid=stSidebarNavLink]:focus-visible { outline: 2px solid currentColor; outline-offset: -2px }
[data-testid=stTooltipContent] { max-height: max(300px, 45vh) }
.words, .foreign { overflow-wrap: anywhere; overflow-x: auto }
.words, .foreign pre { white-space: pre-wrap }
.words ins { background: rgba(0, 158, 115, .18) }
.words del { background: rgba(213, 94, 0, .18) }
[data-testid=stCaptionContainer] { opacity: .85 !important }
[data-testid=stMarkdownContainer] code, [data-testid=stCaptionContainer] code { color: inherit !important }
[data-testid=stMultiSelect] [data-tag] { background: #2f6690 !important; height: auto; max-width: 100% }
[data-testid=stMultiSelect] [data-tag] > span { white-space: normal; overflow-wrap: anywhere }
[data-testid=stMultiSelect] [role=group]:has(> [data-testid=stMultiSelectTagsContainer]) {
 height: auto; max-height: none }
[data-testid=stMultiSelectTagsContainer] {
 height: auto; max-height: 20rem; flex-wrap: wrap; overflow: hidden auto; mask-image: none }
.st-key-tree button { justify-content: start; text-align: start }
.st-key-tree code { font: inherit; padding: 0; background: none }
[data-testid^=stBaseButton-primary]:not(:disabled) { background: #2f6690 !important; border-color: #2f6690 !important }
[data-testid=stMultiSelect] [data-tag] * { color: white !important }
button kbd { color: inherit !important; opacity: 1 !important }
</style>"""
"""Ours, and constant: less air above the title, the gap below `tell_broken` counted; where the keys are among the
screens; help on up to half the height; words that differ (`board.diff_html`) and foreign Markdown, never wider than
their place; those of Streamlit's colours that are too pale to read; chosen names whole, on as many lines as they take;
and the names of prompts in one column."""


def show() -> None:
    """The page that the address names, in its frame."""
    st.set_page_config(page_title="Workbench", layout="wide")
    if not may_show():
        return
    pages = {
        name: st.Page(page, title=title, url_path=name, default=name == "journey")
        for name, (title, page) in PAGES.items()
    }
    st.session_state[SCREENS] = pages
    chosen = st.navigation(list(pages.values()))
    st.html(STYLE)
    send_while_typing()
    sidebar()
    tell_broken()
    chosen.run()
