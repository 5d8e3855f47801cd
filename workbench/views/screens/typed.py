"""What is typed reaches the app while one types: drafts are kept, and what follows from them is shown, at each pause.

Streamlit has this for a field of one line (`st.text_input(live=PAUSE)`). A text area sends what stands in it when it
is left and on Ctrl+Enter, so the page presses that key for whoever has paused; where a later Streamlit has other keys
or names, it is as without: sent when the field is left.

It presses the key, too, as soon as a finger or a mouse goes down elsewhere: a tap on a link would leave the page first,
and what the field sends after it would bring the page back.

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
  let pause, waiting
  const send = () => {
    clearTimeout(pause)
    waiting?.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", ctrlKey: true, bubbles: true}))
    waiting = null
  }
  const typed = event => {
    clearTimeout(pause)
    waiting = null
    if (event.isComposing || !event.target.matches("[class*=st-key-draft-] textarea")) return
    waiting = event.target
    pause = setTimeout(send, 800)
  }
  document.addEventListener("input", typed)
  document.addEventListener("compositionend", typed)
  document.addEventListener("pointerdown", send, true)
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
