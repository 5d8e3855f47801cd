"""What `workbench ui` gives to Streamlit."""

from workbench.views.screens import show

show()
