"""The app's entry for Streamlit; `workbench ui` starts the same screens from an installed package."""

from workbench.views.screens import show

show()
