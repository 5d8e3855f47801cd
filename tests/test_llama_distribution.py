"""Tokens are drawn from the right distribution, each trial for itself, whether or not trials share a branch.

What is expected is computed here, from the logits of the very step that was sampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from doubles.local import Ask, Local, chat_prompt, opened, smollm2
from doubles.tiny_gguf import write_gguf
from numpy.typing import NDArray
from scipy import stats

from workbench.engines.llama.answer import Answer
from workbench.engines.llama.context import Row, Shape
from workbench.engines.llama.sampling import Sampling

pytest.importorskip("llama_cpp")

LEAST_P = 1e-3
"""Seeds are fixed, so a test passes always or never; a right sampler passes one with this probability less."""
CHAINS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "typical": {"temperature": 1.3, "top_k": 12, "typical_p": 0.8, "min_p": 0.0},
    "dynamic": {"temperature": 1.0, "dynatemp_range": 0.6, "dynatemp_exponent": 1.5},
    "penalties": {"repeat_penalty": 1.4, "presence_penalty": 0.3, "frequency_penalty": 0.2, "top_k": 20},
}


def expected(logits: NDArray[np.float32], history: list[int], want: Sampling) -> dict[int, float]:
    """Token → probability after the samplers of the server's default order, as their papers define them."""
    values = logits.astype(np.float64)
    for token, count in Counter(history[-want.repeat_last_n :]).items():
        values[token] *= 1 / want.repeat_penalty if values[token] > 0 else want.repeat_penalty
        values[token] -= want.presence_penalty + count * want.frequency_penalty
    ids = np.argsort(-values, kind="stable")[: want.top_k or None]
    values = values[ids]
    if want.typical_p < 1:
        p = softmax(values)
        surprise = np.abs(-np.log(p) - entropy(p))
        order = np.argsort(surprise, kind="stable")
        kept = np.sort(order[: int(np.searchsorted(np.cumsum(p[order]), want.typical_p)) + 1])
        ids, values = ids[kept], values[kept]
    kept_count = int(np.searchsorted(np.cumsum(softmax(values)), want.top_p)) + 1 if want.top_p < 1 else len(ids)
    ids, values = ids[:kept_count], values[:kept_count]
    if want.min_p > 0:
        likely = values >= values.max() + np.log(want.min_p)
        ids, values = ids[likely], values[likely]
    temperature = want.temperature
    if want.dynatemp_range > 0 and len(ids) > 1:
        low, high = max(0.0, temperature - want.dynatemp_range), temperature + want.dynatemp_range
        share = entropy(softmax(values)) / np.log(len(ids))
        temperature = low + (high - low) * share**want.dynatemp_exponent
    return dict(zip(ids.tolist(), softmax(values / temperature).tolist(), strict=True))


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def entropy(p: NDArray[np.float64]) -> float:
    return float(-(p * np.log(p)).sum())


class Watched(Answer):
    """Keeps what each of its tokens was drawn from."""

    def draw(self, row: Row) -> int | None:
        if not hasattr(self, "seen"):
            self.seen: list[tuple[int, dict[int, float]]] = []
        return super().draw(Watch(row, self))  # type: ignore[arg-type]


class Watch:
    def __init__(self, row: Row, answer: Watched) -> None:
        self._row, self._answer = row, answer

    def sample(self, chain: Any, shortlist: int | None) -> int:
        answer = self._answer
        sampling = Sampling.from_params(answer.request.params)
        probabilities = expected(self._row.logits, list(answer.path), sampling)
        token = self._row.sample(chain, shortlist)
        answer.seen.append((token, probabilities))
        return token


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    path = write_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    with opened(path, Shape(4096, 128, 1, 128), most=64) as local:
        yield local


@pytest.fixture(scope="module")
def real() -> Iterator[Local]:
    with opened(smollm2("q8_0"), Shape(2048, 256, 1, 128), most=64) as local:
        yield local


def drawn(local: Local, prompt: tuple[int, ...], params: dict[str, Any], count: int, shared: bool) -> list[Watched]:
    asks = [Ask(prompt, {"max_tokens": 3, **params}, seed) for seed in range(count)]
    local.scheduler.forget()
    if shared:
        return local.ask(asks, Watched)  # type: ignore[return-value]
    found = []
    for ask in asks:
        local.scheduler.forget()
        found += local.ask([ask], Watched)
    return found  # type: ignore[return-value]


def check_first_tokens(answers: list[Watched]) -> None:
    """Chi-squared over the tokens; those expected less than five times are one cell."""
    tokens, probabilities = Counter(a.seen[0][0] for a in answers), answers[0].seen[0][1]
    assert set(tokens) <= set(probabilities)
    often = [token for token, p in probabilities.items() if p * len(answers) >= 5]
    observed = [tokens[token] for token in often]
    wanted = [probabilities[token] * len(answers) for token in often]
    if len(often) < len(probabilities):
        observed.append(len(answers) - sum(observed))
        wanted.append(len(answers) - sum(wanted))
    assert len(observed) > 2 and stats.chisquare(observed, wanted, sum_check=False).pvalue > LEAST_P


def check_later_tokens(answers: list[Watched], place: int, bins: int) -> None:
    """Each trial has a distribution of its own there. The share of probability before its token, plus a random
    part of the token's own, is uniform if and only if tokens follow their distributions."""
    random, shares = np.random.default_rng(place), []
    for token, probabilities in (a.seen[place] for a in answers if len(a.seen) > place):
        order = list(probabilities)
        before = sum(probabilities[other] for other in order[: order.index(token)])
        shares.append(before + random.random() * probabilities[token])
    assert len(shares) > 0.5 * len(answers)
    counts, _ = np.histogram(shares, bins, (0, 1))
    assert stats.chisquare(counts).pvalue > LEAST_P


def check_pairs_agree_as_often_as_they_should(answers: list[Watched]) -> None:
    """Trials that share logits are independent: a share Σp² of pairs have the same first token. Its standard
    error is that of a U-statistic of two draws."""
    n, p = len(answers), np.array(list(answers[0].seen[0][1].values()))
    counts = np.array(list(Counter(a.seen[0][0] for a in answers).values()))
    share, agree = (p**2).sum(), (counts * (counts - 1)).sum() / (n * (n - 1))
    error = np.sqrt(4 * ((p**3).sum() - share**2) / n + 2 * share * (1 - share) / (n * (n - 1)))
    assert abs(agree - share) < 3.3 * error


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("chain", CHAINS)
def test_tokens_follow_their_distribution(tiny: Local, chain: str, shared: bool) -> None:
    answers = drawn(tiny, (70, 71, 72, 70), CHAINS[chain], 1500 if shared else 500, shared)
    check_first_tokens(answers)
    check_later_tokens(answers, 1, 20)
    check_later_tokens(answers, 2, 20)
    check_pairs_agree_as_often_as_they_should(answers)


@pytest.mark.model
@pytest.mark.parametrize(("shared", "count"), [(True, 400), (False, 60)])
def test_a_real_models_tokens_follow_their_distribution(real: Local, shared: bool, count: int) -> None:
    prompt = chat_prompt(real.vocabulary, "Say a word.")
    before = real.counters.evaluated
    answers = drawn(real, prompt, CHAINS["default"], count, shared)
    if shared:
        assert real.counters.evaluated - before < count  # one prompt, few first tokens, some second ones
    check_first_tokens(answers)
    check_later_tokens(answers, 2, 20 if shared else 8)
    check_pairs_agree_as_often_as_they_should(answers)


def test_the_checks_see_a_wrong_distribution(tiny: Local) -> None:
    """Temperature 0.6 is told from 1.0, at the first and the third token, and trials with one random state in
    common from independent ones."""
    prompt = (70, 71, 72, 70)
    cold = {**CHAINS["plain"], "temperature": 0.6}
    for answer in (answers := drawn(tiny, prompt, cold, 1500, True)):
        for place, (token, probabilities) in enumerate(answer.seen):
            powers = np.array(list(probabilities.values())) ** 0.6  # the distribution at temperature 1.0
            answer.seen[place] = (token, dict(zip(probabilities, (powers / powers.sum()).tolist(), strict=True)))
    with pytest.raises(AssertionError):
        check_first_tokens(answers)
    with pytest.raises(AssertionError):
        check_later_tokens(answers, 2, 20)
    twins = [answer for answer in drawn(tiny, prompt, CHAINS["plain"], 150, True) for _ in range(8)]
    with pytest.raises(AssertionError):
        check_pairs_agree_as_often_as_they_should(twins)
