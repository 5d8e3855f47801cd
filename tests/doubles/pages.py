"""What stands on a page, for tests of a screen's logic."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def opened(app: AppTest, **address: str) -> AppTest:
    """The screen at this address, after its first pass."""
    for name, value in address.items():
        app.query_params[name] = value
    return clean(app.run())


def clean(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].value
    return app


def press(app: AppTest, label: str) -> AppTest:
    return clean(next(b for b in app.button if b.label == label).click().run())


def address_of(app: AppTest, name: str) -> str:
    value = app.query_params[name]
    return value[0] if isinstance(value, list) else value  # which of them depends on who wrote it


def texts(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.text, *app.code])


def said(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.success, *app.warning, *app.error, *app.info])
