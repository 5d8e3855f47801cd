"""Foreign Markdown as HTML that can do nothing: a closed list of tags without attributes, all else as text.

Raw HTML, links, images, link definitions and entities are left out of the grammar (CommonMark 0.31 with tables,
by markdown-it), so what would have been one stands there as it was written.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from workbench.views.format import printable

TAGS = frozenset(
    "blockquote br code del em h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul".split()  # noqa: SIM905
)
"""All that `safe_html` ever gives. Headings begin at the fourth level: a page has titles of its own."""

_NO_RULES = ("html_block", "html_inline", "link", "image", "autolink", "reference", "entity")


class _Plain(RendererHTML):
    """Tags without attributes; code without the name of its language."""

    def renderToken(  # noqa: N802 - the name that markdown-it calls
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        token = tokens[idx]
        token.attrs = {}
        if token.type.startswith("heading"):
            token.tag = f"h{min(6, int(token.tag[1:]) + 3)}"
        if token.tag == "s":
            token.tag = "del"
        return super().renderToken(tokens, idx, options, env)

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: MutableMapping[str, Any]) -> str:
        tokens[idx].info = ""
        return super().fence(tokens, idx, options, env)


_PARSER = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Plain)
_PARSER.enable(["table", "strikethrough"]).disable(list(_NO_RULES))


def safe_html(text: str) -> str:
    """The text's Markdown as HTML of `TAGS` only, without any attribute."""
    html: str = _PARSER.render(printable(text))
    return html
