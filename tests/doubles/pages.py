"""The app's places by their addresses, and what stands on a page, for tests of a screen's logic."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

PLACES = {
    "journey": "/?table=1",
    "runs": "/runs",
    "prompts": "/prompts",
    "history": "/prompts?view=history",
    "manage": "/prompts?view=manage",
    "playground": "/playground",
    "sweep": "/sweep",
    "yaml": "/sweep?edit=yaml",
    "judge": "/judge",
    "pairs": "/judge?rater=Eva",
    "ratings": "/judge?rater=Eva&ask=1 to 5",
    "models": "/models",
    "scores": "/compare?view=scores&all=1",
    "axes": "/compare?view=axes",
    "parallel": "/compare?view=parallel",
    "price": "/compare?view=price&price=tokens",
    "cases": "/compare?view=cases",
    "outputs": "/compare?view=outputs",
    "difference": "/compare?view=outputs&diff=1",
    "markdown": "/compare?view=outputs&markdown=1",
    "megabyte": "/compare?view=outputs&case=long",
    "megabyte differing": "/compare?view=outputs&case=long&diff=1",
    "notes": "/compare?view=notes",
    "training": "/compare?view=training",
}
"""Every screen and every part of one."""


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
