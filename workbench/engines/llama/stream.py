"""Token bytes → text that may be shown: whole characters only, and never past a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer as it grows.

    A character may be split over tokens, and so may a stop string: what could still become one is held
    back. The text ends before the first stop string. Bytes that are no UTF-8 become U+FFFD.

    >>> stream = TextStream(["END"])
    >>> [stream.push(piece) for piece in (b"caf\\xc3", b"\\xa9 E", b"N", b"D!")], stream.stopped
    (['caf', 'é ', '', ''], True)
    >>> stream.text
    'café '
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._parts: list[str] = []
        self.stopped = False
        """A stop string was met; nothing that is pushed after it counts."""

    @property
    def text(self) -> str:
        """What has been given out so far."""
        return "".join(self._parts)

    def push(self, data: bytes) -> str:
        """Take the bytes of one token; returns the text that is now certain."""
        return "" if self.stopped else self._advance(self._held + self._decoder.decode(data))

    def finish(self) -> str:
        """The answer has ended: returns what was held back for a stop string. The bytes of a character that
        the end cut in two are dropped, as llama.cpp's server does."""
        rest, self._held = self._held, ""
        if rest:
            self._parts.append(rest)
        return rest

    def _advance(self, text: str) -> str:
        cut = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=-1)
        if cut >= 0:
            self.stopped, new, self._held = True, text[:cut], ""
        else:
            keep = self._possible_stop(text)
            new, self._held = text[: len(text) - keep], text[len(text) - keep :]
        if new:
            self._parts.append(new)
        return new

    def _possible_stop(self, text: str) -> int:
        """Length of the longest end of the text that a stop string begins with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
