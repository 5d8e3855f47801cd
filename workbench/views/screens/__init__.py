"""The app's screens, one a file. Each reads the store; nothing that a model wrote is rendered as HTML or Markdown."""

from workbench.views.screens.runs import show

__all__ = ["show"]
