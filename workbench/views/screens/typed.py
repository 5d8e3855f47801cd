"""What is typed reaches the app while one types: drafts are kept, and what follows from them is shown, at each pause.

Streamlit has this for a field of one line (`st.text_input(live=PAUSE)`). A text area sends what stands in it when it
is left and on Ctrl+Enter, so the page presses that key for whoever has paused; where a later Streamlit has other keys
or names, it is as without: sent when the field is left.

A field's text may then be newer than what the app knows. So a field is never given the text that it has
(`fill_field`): what is set is sent to the browser, and would come back over what was typed meanwhile.
"""

from __future__ import annotations

import streamlit as st

PAUSE = "800ms"
DRAFT = "draft "
"""So begin the keys of the text areas that are meant, which Streamlit makes names of classes. A text area of a form is
none of them: that key would submit the form."""
SCRIPT = """<script>
if (!window.workbenchTyped) {
  window.workbenchTyped = true
  let pause
  const typed = event => {
    clearTimeout(pause)
    const area = event.target
    if (event.isComposing || !area.matches("[class*=st-key-draft-] textarea")) return
    const enter = {key: "Enter", ctrlKey: true, bubbles: true}
    pause = setTimeout(() => area.dispatchEvent(new KeyboardEvent("keydown", enter)), 800)
  }
  document.addEventListener("input", typed)
  document.addEventListener("compositionend", typed)
}
</script>"""
"""Constant; no text of anyone's goes into it. It waits while a method of input composes a letter."""


def send_while_typing() -> None:
    """Once on each page."""
    st.html(SCRIPT, unsafe_allow_javascript=True)


def fill_field(key: str, text: str) -> None:
    """Sets what stands in the field with this key, where it is another text."""
    if st.session_state.get(key) != text:
        st.session_state[key] = text
