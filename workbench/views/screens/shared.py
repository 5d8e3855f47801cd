"""What `workbench ui` gives to Streamlit where other machines can reach it: the same page, behind `TokenToCookie`."""

from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

from workbench.views.screens.door import TokenToCookie

app = App(Path(__file__).with_name("__main__.py"), middleware=[Middleware(TokenToCookie)])
