"""One request on its way to its output: what the scheduler calls for each token (`trial.Trial`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

from workbench.engines.base import Piece, failed
from workbench.engines.llama.context import Row
from workbench.engines.llama.sampling import Chain, Sampling
from workbench.engines.llama.stream import TextStream
from workbench.engines.llama.vocabulary import Vocabulary
from workbench.records import Json, Output, Request

MOST_LOGPROBS = 100


class Answer:
    """A request whose answer is sampled, or whose choices are read. `close` frees its sampler."""

    def __init__(
        self, request: Request, prompt: list[int], limit: int, sampling: Sampling, vocabulary: Vocabulary
    ) -> None:
        self.request, self.prompt, self._limit, self._vocabulary = request, prompt, limit, vocabulary
        self.tokens: list[int] = []
        self.stream = TextStream(sampling.stop)
        self._pieces: list[Piece] = []
        """Text that has become certain and is not handed on yet."""
        self.finish = "length" if limit == 0 else ""
        """Empty while the answer is not over."""
        self._make_chain: Callable[[], Chain] | None = None
        self._chain: Chain | None = None
        self._shortlist: int | None = None
        self._logprobs: list[Json] = []
        self._started = 0.0
        self._first: float | None = None

    def begin(self) -> None:
        """Its turn has come: latency counts from here."""
        self._started = perf_counter()

    def sample_with(self, make_chain: Callable[[], Chain], shortlist: int | None) -> None:
        """The sampler chain, made at the first token since it takes more memory than a request that waits, and
        how many of the likeliest tokens it needs (None: all). Without one the most probable token is taken."""
        self._make_chain, self._shortlist = make_chain, shortlist

    def close(self) -> None:
        if self._chain:
            self._chain.close()
            self._chain = None

    @property
    def path(self) -> Sequence[int]:
        return [*self.prompt, *self.tokens]

    @property
    def room(self) -> int:
        return self._limit - len(self.tokens)

    def draw(self, row: Row) -> int | None:
        if self._make_chain and not self._chain:
            self._chain = self._make_chain()
        token = row.sample(self._chain.handle, self._shortlist) if self._chain else row.best
        self._first = self._first or perf_counter() - self._started
        if self._vocabulary.is_end(token):
            self.finish = "stop"
        else:
            self._take(token, row)
        if self.finish:
            self._say(self.stream.finish())
            self.close()
            return None
        return token

    @property
    def continuations(self) -> Sequence[Sequence[int]]:
        return ()

    def read(self, choice: int, token: int, row: Row) -> bool:
        raise NotImplementedError  # an answer that is sampled has no continuations

    def output(self, alone: bool) -> Output:
        """The output; only an answer that was made alone has a latency of its own."""
        return Output(
            self.request.id,
            self.stream.text,
            self.finish,
            prompt_tokens=len(self.prompt),
            output_tokens=len(self.tokens),
            seconds=perf_counter() - self._started if alone else None,
            first_token_seconds=self._first if alone else None,
            cost=0.0,
            logprobs=tuple(self._logprobs),
        )

    def take_pieces(self) -> list[Piece]:
        """The text that has become certain since the last call, where the request streams."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def cancelled(self) -> Output:
        return failed(self.request, "cancelled", "nobody waits for this answer any more")

    def _take(self, token: int, row: Row) -> None:
        self.tokens.append(token)
        if self.request.logprobs:
            self._logprobs.append(self._logprob(token, row))
        self._say(self.stream.push(self._vocabulary.piece(token)))
        if self.stream.stopped:
            self.finish = "stop"
        elif not self.room:
            self.finish = "length"

    def _say(self, text: str) -> None:
        if text and self.request.stream:
            self._pieces.append(Piece(self.request.id, text))

    def _logprob(self, token: int, row: Row) -> Json:
        values = row.log_probabilities
        best = values.argsort()[::-1][: min(self.request.logprobs, MOST_LOGPROBS)]
        shown = self._vocabulary.shown
        return {
            "token": shown(token),
            "logprob": float(values[token]),
            "top": [[shown(int(i)), float(values[i])] for i in best],
        }


class Choice(Answer):
    """A request whose given continuations are scored by their log-likelihood; the likeliest is the text."""

    def __init__(
        self, request: Request, prompt: list[int], choices: Mapping[str, Sequence[int]], vocabulary: Vocabulary
    ) -> None:
        super().__init__(request, prompt, 1, Sampling(), vocabulary)
        self._choices = choices
        self._sums = [0.0] * len(choices)
        self._left = sum(map(len, choices.values()))

    @property
    def continuations(self) -> Sequence[Sequence[int]]:
        return list(self._choices.values())

    def read(self, choice: int, token: int, row: Row) -> bool:
        self._sums[choice] += float(row.log_probabilities[token])
        self._left -= 1
        return self._left == 0

    def output(self, alone: bool) -> Output:
        found = list(zip(self._choices, self._sums, map(len, self._choices.values()), strict=True))
        best = max(found, key=lambda one: one[1])
        by_length = max(found, key=lambda one: one[1] / one[2])
        return Output(
            self.request.id,
            best[0],
            prompt_tokens=len(self.prompt),
            output_tokens=0,
            seconds=perf_counter() - self._started if alone else None,
            cost=0.0,
            extra={
                "choices": [{"text": text, "logprob": total, "tokens": count} for text, total, count in found],
                "likeliest_by_length": by_length[0],
            },
        )
