"""A model's metadata and its tokens, from a GGUF opened without its weights (`vocab_only`)."""

from __future__ import annotations

import ctypes
import re
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.engines.llama import library
from workbench.errors import ModelError


class Vocabulary:
    """Opens in a fraction of a second, whatever the model's size; freed when nothing refers to it any more,
    since plans count tokens in one thread while another loads and unloads weights.

    Raises ModelError where the file is damaged, truncated or of an unknown architecture.
    """

    def __init__(self, path: Path, template: str | None = None) -> None:
        """`template` stands in place of the model's own."""
        self._template = template
        self._lib = lib = library.load()
        params = lib.llama_model_default_params()
        params.vocab_only = True
        self._model = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ModelError(f"{path} cannot be opened: {library.explain()}; fetch or make the file again")
        weakref.finalize(self, lib.llama_model_free, self._model)
        self.handle: Any = lib.llama_model_get_vocab(self._model)
        self.size: int = lib.llama_vocab_n_tokens(self.handle)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The file's own key-value pairs as text; long arrays, such as the tokens, are left out by llama.cpp."""
        lib, model = self._lib, self._model
        pairs = {}
        for i in range(lib.llama_model_meta_count(model)):
            key = _text(lib.llama_model_meta_key_by_index, model, i)
            pairs[key] = _text(lib.llama_model_meta_val_str_by_index, model, i)
        return pairs

    @property
    def template(self) -> str | None:
        """The chat template (Jinja), where there is one."""
        return self._template or self.metadata.get("tokenizer.chat_template")

    @property
    def trained_context(self) -> int:
        """Tokens that the model was trained to see; 2048 where the file does not say."""
        architecture = self.metadata.get("general.architecture", "")
        return int(self.metadata.get(f"{architecture}.context_length", 2048))

    @cached_property
    def branches(self) -> bool:
        """Whether a prefix can be shared and cut back; recurrent and hybrid models keep a state that can't be."""
        lib, model = self._lib, self._model
        return not (lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model))

    @property
    def cell_bytes(self) -> int:
        """Memory of one token in the KV cache, in 16 bits; a generous guess where the file does not say."""
        size = self._told("embedding_length", 4096) // max(self.heads, 1)
        keys, values = self._told("attention.key_length", size), self._told("attention.value_length", size)
        both = self._told("attention.head_count_kv", self.heads) * (keys + values)
        return max(1, self._told("block_count", 32) * both * 2)

    @property
    def heads(self) -> int:
        """Heads of attention in a layer."""
        return self._told("attention.head_count", 32)

    def _told(self, name: str, default: int) -> int:
        value = self.metadata.get(f"{self.metadata.get('general.architecture', '')}.{name}", "")
        return int(value) if value.isdigit() else default

    @cached_property
    def special(self) -> dict[str, int]:
        """Text → id of the tokens that plain text must never become: control and unknown tokens, and
        user-defined ones of the form `<|…|>`, as which llama.cpp takes the control tokens of some models."""
        lib = self._lib
        control = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
        found = {}
        for token in range(self.size):
            attr = lib.llama_vocab_get_attr(self.handle, token)
            if attr & (control | lib.LLAMA_TOKEN_ATTR_USER_DEFINED):
                text = self.token_text(token)
                if text and (attr & control or (text.startswith("<|") and text.endswith("|>"))):
                    found[text] = token
        return found

    @cached_property
    def special_ids(self) -> frozenset[int]:
        return frozenset(self.special.values())

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        """Finds the special tokens' texts, the longest first, as llama.cpp does."""
        texts = sorted(self.special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)) or r"(?!)")

    @cached_property
    def bos(self) -> int | None:
        """The token that has to begin every prompt, where the model says that there is one."""
        if not self._lib.llama_vocab_get_add_bos(self.handle):
            return None
        return int(self._lib.llama_vocab_bos(self.handle))

    def token_text(self, token: int) -> str:
        """The text of a special token as templates write it; empty for -1, llama.cpp's "none"."""
        return "" if token < 0 else self._lib.llama_vocab_get_text(self.handle, token).decode(errors="replace")

    @property
    def bos_text(self) -> str:
        return self.token_text(self._lib.llama_vocab_bos(self.handle))

    @property
    def eos_text(self) -> str:
        return self.token_text(self._lib.llama_vocab_eos(self.handle))

    def strips(self, token: int) -> tuple[bool, bool]:
        """Whether a special token swallows the white space to its left, and to its right."""
        attr = self._lib.llama_vocab_get_attr(self.handle, token)
        return bool(attr & self._lib.LLAMA_TOKEN_ATTR_LSTRIP), bool(attr & self._lib.LLAMA_TOKEN_ATTR_RSTRIP)

    def tokens(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text, without BOS or EOS; special tokens are recognised in it only where asked for."""
        return self._tokens(text, False, special)

    def whole(self, text: str) -> list[int]:
        """Ids of a text with what the model puts around one, as embedding models want it."""
        return self._tokens(text, True, False)

    def _tokens(self, text: str, around: bool, special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        while True:
            ids = (self._lib.llama_token * room)()
            count = self._lib.llama_tokenize(self.handle, data, len(data), ids, room, around, special)
            if count >= 0:
                return list(ids[:count])
            room = -count

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer: end of turn, of sequence, of message."""
        return bool(self._lib.llama_vocab_is_eog(self.handle, token))

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to an answer; a control token adds none."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._lib.llama_token_to_piece(self.handle, token, buffer, room, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def shown(self, token: int) -> str:
        """A token as text for people: also a control token or half a character shows as something."""
        return self.piece(token).decode(errors="replace") or self.token_text(token)


def _text(call: Any, model: Any, i: int) -> str:
    """What one of llama.cpp's "write it into my buffer, tell me its length" calls has to say."""
    length = call(model, i, ctypes.create_string_buffer(1), 1)
    buffer = ctypes.create_string_buffer(length + 1)
    call(model, i, buffer, length + 1)
    return buffer.value.decode(errors="replace")
