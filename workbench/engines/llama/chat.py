"""Messages → tokens, by the chat template that the model itself brings, or its alias gives.

Special tokens come only from the template, never from what people or data wrote: where a message contains
the text of one (`<|im_end|>`), a guard character is put inside it before the template is rendered. The
rendered text is then split at the special tokens that are still whole, and the guards are taken out of the
pieces between, which are tokenised as plain text. Which tokens are special: see `Vocabulary.special`.

Templates follow the conventions of Hugging Face (`raise_exception`, `tojson`, `strftime_now`, loop
controls): https://huggingface.co/docs/transformers/chat_templating. A template that asks for today's date
gets `TODAY`: the same messages have to give the same prompt tomorrow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workbench.engines.llama.vocabulary import Vocabulary
from workbench.errors import ModelError
from workbench.records import Json, Message

TODAY = datetime(2024, 1, 1)
_GUARDS = [chr(code) for code in range(0xE000, 0xE100)]
"""The beginning of Unicode's first private-use area."""


class ChatError(Exception):
    """Messages that this model cannot be asked; the message is for people."""


def tokens(messages: Sequence[Message], vocabulary: Vocabulary) -> list[int]:
    """The prompt as token ids, with BOS in front exactly once where the model wants it.

    One message of the role `raw` is taken as it is. Raises ChatError where the model has no template or
    its template refuses the messages.
    """
    if any(part.kind != "text" for message in messages for part in message.parts):
        raise ChatError("this model reads text only; take the images out of the prompt")
    if [message.role for message in messages] == ["raw"]:
        ids = _raw_tokens(messages[0].text, vocabulary)
    else:
        ids = _chat_tokens(messages, vocabulary)
    bos = vocabulary.bos
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def _raw_tokens(text: str, vocabulary: Vocabulary) -> list[int]:
    guard = _guard([text])
    return _plain(
        vocabulary.special_pattern.sub(lambda found: guard.join(found[0]), text), guard, (False, False), vocabulary
    )


def _chat_tokens(messages: Sequence[Message], vocabulary: Vocabulary) -> list[int]:
    special = vocabulary.special_pattern
    texts = [message.text for message in messages]
    if not any(special.search(text) for text in texts):
        return vocabulary.tokens(render(messages, texts, vocabulary), special=True)
    guard = _guard(texts)
    guarded = [special.sub(lambda found: guard.join(found[0]), text) for text in texts]
    return _split(render(messages, guarded, vocabulary), guard, vocabulary)


def _guard(texts: Sequence[str]) -> str:
    """A character that is in none of the texts."""
    guard = next((c for c in _GUARDS if not any(c in text for text in texts)), None)
    if guard is None:
        raise ChatError("a message uses all private-use characters from U+E000 to U+E0FF; take them out")
    return guard


def _split(text: str, guard: str, vocabulary: Vocabulary) -> list[int]:
    """Tokens of a rendered text: special ones where their text is whole, plain text between."""
    ids: list[int] = []
    start, strip_left = 0, False
    for found in vocabulary.special_pattern.finditer(text):
        token = vocabulary.special[found[0]]
        before, after = vocabulary.strips(token)
        ids += _plain(text[start : found.start()], guard, (strip_left, before), vocabulary)
        ids.append(token)
        start, strip_left = found.end(), after
    return ids + _plain(text[start:], guard, (strip_left, False), vocabulary)


def _plain(text: str, guard: str, strip: tuple[bool, bool], vocabulary: Vocabulary) -> list[int]:
    text = text.lstrip() if strip[0] else text
    text = text.rstrip() if strip[1] else text
    ids = vocabulary.tokens(text.replace(guard, ""), special=False)
    if vocabulary.special_ids.isdisjoint(ids):
        return ids
    # llama.cpp finds user-defined tokens in plain text, too: only pieces of their text are safe.
    return [token for piece in text.split(guard) for token in vocabulary.tokens(piece, special=False)]


def read_template(settings: Mapping[str, Json]) -> str | None:
    """The text of the setting `chat_template`, a file; None where there is none. Raises ModelError for one that can't
    be read, or is no template."""
    if "chat_template" not in settings:
        return None
    path = Path(settings["chat_template"])
    try:
        text = path.read_text("utf-8")
        _compiled(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"chat_template: {path} can't be read as UTF-8 text: {error}") from error
    except TemplateError as error:
        raise ModelError(f"chat_template: {path}:{getattr(error, 'lineno', 1)}: {error}") from error
    if not text.strip():
        raise ModelError(f"chat_template: {path} is empty")
    return text


def render(messages: Sequence[Message], texts: Sequence[str], vocabulary: Vocabulary) -> str:
    """The prompt's text: the model's template over the roles and the given texts."""
    if vocabulary.template is None:
        raise ChatError(
            "this model has no chat template; ask it with a raw prompt (`model: {apiType: completion}` in the prompt), "
            "or give its alias one (chat_template: FILE in workbench.yaml)"
        )
    turns = [{"role": message.role, "content": text} for message, text in zip(messages, texts, strict=True)]
    try:
        return _compiled(vocabulary.template).render(
            messages=turns,
            add_generation_prompt=True,
            bos_token=vocabulary.bos_text,
            eos_token=vocabulary.eos_text,
        )
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ChatError(f"the model's chat template refuses these messages: {error}") from error


@lru_cache(maxsize=16)
def _compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = TODAY.strftime
    return environment.from_string(source)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Unlike Jinja's own filter this one does not escape for HTML, as templates expect."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
