"""Sampling parameters, named and set by default as in llama.cpp's server, and the sampler chain they make.

Names, defaults and the order of the chain:
https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md and common/sampling.cpp.
With `temperature` 0 or below the most probable token is taken; what cuts or reshapes the distribution
(top_k … xtc, mirostat) then has no effect, penalties and biases have. A grammar is applied to the whole
vocabulary before all but `logit_bias`.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from workbench.engines.llama import library
from workbench.engines.llama.vocabulary import Vocabulary
from workbench.errors import ModelError, suggest
from workbench.records import Json

_RENAMED = {
    "n_predict": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temp": "temperature",
    "typ_p": "typical_p",
    "frequency": "frequency_penalty",
    "repetition_penalty": "repeat_penalty",
}
"""What other programs call our parameters, where the spelling would not suggest ours."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request's tokens are chosen."""

    temperature: float = 0.8
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 40
    """0: all."""
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    """Below 0: off."""
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repeat_last_n: int = 64
    """Tokens that the penalties look back at; -1: the whole context."""
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    """1 or 2: that version of Mirostat instead of the other samplers."""
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    max_tokens: int = -1
    """-1: until the answer ends or the context is full."""
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """None: the request's."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token id → what is added to its logit; -inf (in YAML `-.inf`, or false) forbids it."""

    @classmethod
    def from_params(cls, params: Mapping[str, Json]) -> Self:
        """Raises ModelError for an unknown name (with the nearest), a wrong type or a value out of range."""
        kinds = {field.name: str(field.type) for field in fields(cls)}
        for name in params:
            if name in _RENAMED:
                raise ModelError(f"unknown parameter '{name}'; here it is called '{_RENAMED[name]}'")
            if name not in kinds:
                raise ModelError(f"unknown parameter '{name}'{suggest(name, kinds)}")
        sampling = cls(**{name: _read(name, kinds[name], value) for name, value in params.items()})
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(sampling, name) <= high:
                end = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
                raise ModelError(f"parameter '{name}' is {getattr(sampling, name)}; it has to be {end}")
        return sampling

    @property
    def greedy(self) -> bool:
        return self.temperature <= 0

    @property
    def takes_the_best(self) -> bool:
        """Whether the model's most probable token is always taken."""
        return self.greedy and not self._penalises and not self.logit_bias

    @property
    def shortlist(self) -> int | None:
        """How many of the likeliest tokens the chain looks at; None: it needs all of them. Biases that only
        lower a logit can push at most so many tokens out of the first top_k."""
        cut = self.top_k > 0 and self.top_n_sigma <= 0 and not self.mirostat and not self.greedy
        lowered = all(bias <= 0 for _, bias in self.logit_bias)
        return self.top_k + len(self.logit_bias) if cut and lowered and not self._penalises else None

    @property
    def _penalises(self) -> bool:
        penalties = (self.repeat_penalty, self.frequency_penalty, self.presence_penalty)
        return penalties != (1.0, 0.0, 0.0) or self.dry_multiplier > 0


PARAMS = frozenset(field.name for field in fields(Sampling))

_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (-math.inf, 1000),
    "dynatemp_range": (0, math.inf),
    "top_k": (-1, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "repeat_last_n": (-1, math.inf),
    "repeat_penalty": (1e-9, math.inf),
    "dry_multiplier": (0, math.inf),
    "dry_allowed_length": (0, math.inf),
    "dry_penalty_last_n": (-1, math.inf),
    "mirostat": (0, 2),
    "mirostat_tau": (0, math.inf),
    "mirostat_eta": (0, math.inf),
    "max_tokens": (-1, math.inf),
}


def _read(name: str, kind: str, value: Json) -> Any:
    """The value as the field's type (its annotation) wants it, or ModelError."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind == "float" and (whole or isinstance(value, float)) and not math.isnan(value):
        return float(value)
    if kind.startswith("int") and (whole or (value is None and kind == "int | None")):
        return value
    if kind == "tuple[str, ...]":
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
            return tuple(texts)
    if kind == "tuple[tuple[int, float], ...]":
        return _biases(name, value)
    wanted = {"float": "a number", "int": "a whole number", "int | None": "a whole number"}.get(kind, "a list of texts")
    raise ModelError(f"parameter '{name}' is {value!r}; it has to be {wanted}")


def _biases(name: str, value: Json) -> tuple[tuple[int, float], ...]:
    pairs = value.items() if isinstance(value, dict) else value
    try:
        return tuple((int(token), -math.inf if bias is False else float(bias)) for token, bias in pairs)
    except (TypeError, ValueError) as error:
        raise ModelError(f"parameter '{name}' has to map token ids to numbers, not {value!r}") from error


class Chain:
    """A sampler chain of llama.cpp with its random state, for one answer; `close` frees it."""

    def __init__(self, sampling: Sampling, vocabulary: Vocabulary, seed: int) -> None:
        self._lib = lib = library.load()
        self._vocabulary = vocabulary
        self._seed = seed % 0xFFFFFFFF  # the largest value would mean "draw one"
        self.handle: Any = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        self._sampling = sampling

    def build(self, prompt: Sequence[int], context: int, grammar: str | None) -> Self:
        """Add the samplers in the server's order; penalties see the prompt, as they do there."""
        lib, want, size = self._lib, self._sampling, self._vocabulary.size
        if want.logit_bias:
            biases = [bias for bias in want.logit_bias if 0 <= bias[0] < size]
            entries = (lib.llama_logit_bias * len(biases))(*biases)
            self._add(lib.llama_sampler_init_logit_bias(size, len(biases), entries))
        if grammar is not None:
            self._add(_grammar_sampler(self._vocabulary, grammar))
        if want.mirostat and not want.greedy:
            self._add_mirostat()
            return self
        self._add_penalties(prompt, context)
        if want.greedy:
            self._add(lib.llama_sampler_init_greedy())
        else:
            self._add_distribution()
        return self

    def close(self) -> None:
        if self.handle:
            self._lib.llama_sampler_free(self.handle)
            self.handle = None

    def _add(self, sampler: Any) -> None:
        self._lib.llama_sampler_chain_add(self.handle, sampler)

    def _add_mirostat(self) -> None:
        lib, want = self._lib, self._sampling
        self._add(lib.llama_sampler_init_temp(want.temperature))
        if want.mirostat == 1:
            size = self._vocabulary.size
            sampler = lib.llama_sampler_init_mirostat(size, self._seed, want.mirostat_tau, want.mirostat_eta, 100)
        else:
            sampler = lib.llama_sampler_init_mirostat_v2(self._seed, want.mirostat_tau, want.mirostat_eta)
        self._add(sampler)

    def _add_penalties(self, prompt: Sequence[int], context: int) -> None:
        lib, want = self._lib, self._sampling
        strengths = (want.repeat_penalty, want.frequency_penalty, want.presence_penalty)
        if strengths != (1.0, 0.0, 0.0):
            reach = context if want.repeat_last_n < 0 else want.repeat_last_n
            self._add_primed(lib.llama_sampler_init_penalties(self._vocabulary.size, reach, *strengths), prompt)
        if want.dry_multiplier > 0:
            reach = context if want.dry_penalty_last_n < 0 else want.dry_penalty_last_n
            breakers = [text.encode() for text in want.dry_sequence_breakers]
            texts = (ctypes.c_char_p * len(breakers))(*breakers)
            shape = (want.dry_multiplier, want.dry_base, want.dry_allowed_length, reach)
            sampler = lib.llama_sampler_init_dry(self._vocabulary.handle, *shape, texts, len(breakers))
            self._add_primed(sampler, prompt)

    def _add_primed(self, sampler: Any, prompt: Sequence[int]) -> None:
        for token in prompt:
            self._lib.llama_sampler_accept(sampler, token)
        self._add(sampler)

    def _add_distribution(self) -> None:
        lib, want = self._lib, self._sampling
        self._add(lib.llama_sampler_init_top_n_sigma(want.top_n_sigma))
        self._add(lib.llama_sampler_init_top_k(want.top_k))
        self._add(lib.llama_sampler_init_typical(want.typical_p, 0))
        self._add(lib.llama_sampler_init_top_p(want.top_p, 0))
        self._add(lib.llama_sampler_init_min_p(want.min_p, 0))
        self._add(lib.llama_sampler_init_xtc(want.xtc_probability, want.xtc_threshold, 0, self._seed))
        self._add(lib.llama_sampler_init_temp_ext(want.temperature, want.dynatemp_range, want.dynatemp_exponent))
        self._add(lib.llama_sampler_init_dist(self._seed))


class GrammarError(Exception):
    """A grammar or schema that llama.cpp does not understand; the message is for people."""


def grammar_of(answer: Mapping[str, Json]) -> str | None:
    """The GBNF text of a request's wanted form, where it has one; raises GrammarError.

    https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
    """
    if "schema" in answer:
        from llama_cpp.llama_grammar import json_schema_to_gbnf

        try:
            return str(json_schema_to_gbnf(json.dumps(answer["schema"])))
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
            raise GrammarError(f"the schema cannot be made a grammar: {error}") from error
    return answer.get("grammar")


_parsed: dict[str, str] = {}
"""Grammars that were tried, and what is wrong with each; empty: nothing."""


def check_grammar(vocabulary: Vocabulary, text: str) -> None:
    """Raises GrammarError where llama.cpp does not understand the grammar."""
    if text not in _parsed:
        library.load().llama_sampler_free(_grammar_sampler(vocabulary, text))
    elif _parsed[text]:
        raise GrammarError(f"the grammar does not parse: {_parsed[text]}")


def _grammar_sampler(vocabulary: Vocabulary, text: str) -> Any:
    if text not in _parsed:
        sampler, _parsed[text] = _tried(vocabulary, text)
    elif not _parsed[text]:
        sampler = library.load().llama_sampler_init_grammar(vocabulary.handle, text.encode(), b"root")
    if _parsed[text]:
        raise GrammarError(f"the grammar does not parse: {_parsed[text]}")
    return sampler


def _tried(vocabulary: Vocabulary, text: str) -> tuple[Any, str]:
    """The sampler, or why there is none. llama.cpp's grammar parser writes its reason straight to file
    descriptor 2, so that is turned to a file for the moment; see `_parsed`."""
    lib = library.load()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            sampler = lib.llama_sampler_init_grammar(vocabulary.handle, text.encode(), b"root")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        told = file.read().decode(errors="replace").strip().partition("\n")[0]
    return sampler, "" if sampler else told or library.explain()
