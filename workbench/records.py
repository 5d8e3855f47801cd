"""The plain records that every stage speaks, in the order in which the data flows:
Message → Prompt → Case → Model → Variant → Trial → Request → Output → Score → Run.
All are frozen; none knows a stage. An id is a hash of content, tagged with its scheme: it can be derived again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of such."""

EMPTY: Mapping[str, Json] = MappingProxyType({})
STAGES = ("select", "prompt", "evaluate", "fine-tune", "ship")
"""The life-cycle stages a run can belong to, in their order."""


def canonical(value: Json) -> str:
    """The one JSON text of a value: keys sorted, no spaces, no escapes beyond JSON's own, never NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(scheme: str, value: Json) -> str:
    """An id of 128 bits of SHA-256 over the canonical form, tagged: `content_id("rq1", …)` → `rq1-5f…`."""
    return f"{scheme}-{hashlib.sha256(canonical([scheme, value]).encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a message's content."""

    kind: Literal["text", "image"]
    value: str
    """The text, or the image as a data URL."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant` or `tool`; `raw` for text that goes to the model without a template."""
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: str, text: str) -> Message:
        return cls(role, (Part("text", text),))

    @property
    def text(self) -> str:
        return "".join(p.value for p in self.parts if p.kind == "text")

    def to_json(self) -> Json:
        """`{"role", "content"}`; content is a string where the message is one text, else a list of parts."""
        if len(self.parts) == 1 and self.parts[0].kind == "text":
            return {"role": self.role, "content": self.parts[0].value}
        return {"role": self.role, "content": [{"type": p.kind, p.kind: p.value} for p in self.parts]}

    @classmethod
    def from_json(cls, data: Json) -> Message:
        content = data["content"]
        if isinstance(content, str):
            return cls.of(data["role"], content)
        return cls(data["role"], tuple(Part(p["type"], p[p["type"]]) for p in content))


@dataclass(frozen=True, slots=True)
class Input:
    """One declared input variable of a prompt."""

    name: str
    type: str = "string"
    """`string`, `integer`, `number`, `boolean`, `array`, `object`, `thread` or `any`."""
    default: Json = None
    """Used where a case gives no value; None means that there is no default."""
    example: Json = None
    required: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One revision of a named template: what a `.prompty` file holds."""

    name: str
    """The path inside the library without its ending, such as `sentiment/few-shot`."""
    revision: str
    """`content_id` of all that can change a request: see `define.prompt`."""
    template: str
    """The body: role markers and Jinja."""
    inputs: tuple[Input, ...] = ()
    partials: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    """Sources of the templates that are included or imported, by their name in the library."""
    tools: tuple[Json, ...] = ()
    outputs: tuple[Json, ...] = ()
    options: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """The prompt's own sampling parameters, in our names: defaults below the suite's."""
    model: str | None = None
    """The prompt's own model, a default below the suite's."""
    strict: bool = True
    """Undefined variables are errors; False renders them as empty text, as Prompty does."""
    raw: bool = False
    """The body goes to the model as it is, without roles: Prompty's `apiType: completion`."""
    description: str = ""
    tags: tuple[str, ...] = ()
    text: str = ""
    """The whole file."""
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One row of input variables to ask about."""

    id: str
    inputs: Mapping[str, Json]
    expected: Json = None
    """The expected answer; None where there is none."""
    tags: tuple[str, ...] = ()
    cluster: str | None = None
    """Rows that belong together, such as questions on one document."""
    messages: tuple[Message, ...] = ()
    """A chat history that the prompt continues."""
    quarantined: bool = False
    """Asked and shown, but counted in no mean, comparison or gate."""
    origin: str = ""
    """`file:line`, for messages to people."""

    @property
    def place(self) -> tuple[str | None, int | None]:
        """File and line that it comes from, as far as they are known."""
        path, _, line = self.origin.rpartition(":")
        return (path, int(line)) if path and line.isdigit() else (self.origin or None, None)

    @property
    def key(self) -> str:
        """Content id of everything that can change a request or a score."""
        return content_id("cs1", [dict(self.inputs), self.expected, [m.to_json() for m in self.messages]])


@dataclass(frozen=True, slots=True)
class Model:
    """What a model alias stands for."""

    alias: str
    engine: str
    settings: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """What the engine needs to open it: `path`, `quantise`, `model`, `base_url`, `api_key_env`, …"""
    price: Mapping[str, float] | None = None
    """US dollars for a million tokens: `input`, `output`, `cached_input`, `batch_input`, …; None: unknown, not free."""
    limits: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    places: Mapping[str, tuple[str, int | None]] = field(default_factory=lambda: EMPTY, compare=False)
    """File and line of each setting, and of the alias under ''; empty for a model that stands in no file."""
    trained_on: tuple[str, ...] = ()
    """Files of `workbench export training`: the cases that it was trained on."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Prompt revision × model × parameters: what is being compared."""

    prompt: str
    revision: str
    model: str
    """The model's alias."""
    params: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """Sampling parameters in our names, such as `temperature`."""
    vars: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """Template inputs that the sweep sets."""
    answer: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """The wanted form of the answer: `choices`, `schema` or `grammar`, as values, not file names."""
    logprobs: int = 0
    label: str = ""
    """A short name, unique in its run: only what differs between the run's variants."""

    @property
    def id(self) -> str:
        """The label is not part of it: the same thing has the same id in every suite."""
        parts = [self.revision, self.model, dict(self.params), dict(self.vars), dict(self.answer), self.logprobs]
        return content_id("va1", parts)


@dataclass(frozen=True, slots=True)
class Trial:
    """Variant × case × repeat: one thing to be answered."""

    variant: Variant
    case: Case
    repeat: int

    @property
    def id(self) -> str:
        """The run-independent place of the trial."""
        return content_id("tr1", [self.variant.id, self.case.id, self.repeat])


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to an engine."""

    id: str
    """Content id of messages, model identity, parameters and what tells repeats apart: see `run.plan`."""
    model: str
    """The model's alias: which engine answers."""
    messages: tuple[Message, ...]
    params: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    seed: int | None = None
    repeat: int = 0
    answer: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    logprobs: int = 0
    tools: tuple[Json, ...] = ()
    stream: bool = False
    """Yield a `Piece` for new text as it comes; not part of the id."""
    alone: bool = False
    """To be served by itself, from an empty cache, to measure its latency; not part of the id."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no answer."""

    kind: str
    """`too_long`, `cancelled`, `timeout`, `connection`, `rate_limit`, `refused`, `server`, `bad_answer`, …"""
    message: str
    retry: bool = False
    """Whether asking again can help."""


@dataclass(frozen=True, slots=True)
class Output:
    """What came back for a request: an answer or a failure."""

    request_id: str
    text: str = ""
    finish_reason: str = "stop"
    """`stop`, `length` (cut at max_tokens), `tool_calls`, `content_filter`, or `failed`."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None
    """First byte asked to last byte answered, without waiting for a turn."""
    first_token_seconds: float | None = None
    cost: float | None = None
    """US dollars; None where the price is unknown."""
    logprobs: tuple[Json, ...] = ()
    """For each token `{"token", "logprob", "top": [[token, logprob], …]}`, when asked for."""
    tool_calls: tuple[Json, ...] = ()
    extra: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """What an engine tells beside: the fingerprint of a hosted model, choice log-likelihoods, …"""
    failure: Failure | None = None


Kind = Literal["pass", "fraction", "number", "label"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a scorer says of one output."""

    value: float | str | None
    """1.0 or 0.0 for `pass`, 0…1 for `fraction`, any for `number`, text for `label`; None: unscored."""
    kind: Kind
    reason: str
    failed: bool = False
    """With no value: it could not be judged, and lacks; without it, the scorer has nothing to say of such an output."""


@dataclass(frozen=True, slots=True)
class Score:
    """One scorer's judgement of the output of one trial; `scorer` is its name in the suite."""

    trial_id: str
    scorer: str
    key: str
    """Content id of scorer, settings, expected answer and version: made anew where it changed. Empty: not judged."""
    value: float | str | None
    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """A scorer as a suite asks for it."""

    name: str
    """Unique in the suite; `scorer` is the registered name."""
    scorer: str
    settings: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    expected: str | None = None
    """A template over the case's inputs that gives the expected answer; None: the case's own."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite, read and resolved: its prompts and cases are at hand, nothing is asked yet."""

    name: str
    stage: str
    variants: tuple[Variant, ...]
    cases: tuple[Case, ...]
    scorers: tuple[ScorerSpec, ...]
    prompts: Mapping[str, Prompt]
    models: Mapping[str, Model]
    """Prompts by revision, models by alias."""
    expected_field: str | None = None
    """The field of the rows that the suite names as the expected answer; an input, too."""
    repeats: int = 1
    seed: int = 0
    block: int = 16
    """How many cases are asked together, those in quarantine between them beside."""
    reference: str | None = None
    """Id of the variant that the others are compared with; None: the first."""
    margin: float = 0.05
    """The smallest difference that matters."""
    allow_failed: float = 0.0
    """The share of trials that may stay without an answer."""
    gates: tuple[Mapping[str, Json], ...] = ()
    """What `define.gates.Gate.from_json` reads: resolved, with their lines."""
    until: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """`smaller_than`, `confidence`, `scorer`: ask no more cases than settle the comparisons with the reference."""
    race: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """`keep`, `confidence`, `scorer`: drop variants that can no longer be among the best."""
    budget: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    reuse: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    retrieve: Mapping[str, Json] = field(default_factory=lambda: EMPTY)
    """What is searched, and for what, before a case is asked about: see `define.retrieve`; empty: nothing."""
    shard: str = ""
    """`2/5` where these are only the cases of one part of several (`define.shards`)."""
    narrowed: str = ""
    """What the command line says in place of the file, in its words: `--limit 5 --only model=house`."""
    text: str = ""
    """The suite's file as it was read."""
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a suite, as the store knows it."""

    id: str
    suite: str
    stage: str
    status: Literal["running", "waiting", "complete", "stopped", "failed", "interrupted"]
    """`waiting`: its batches are with the provider. `interrupted` (not stored): `running`, but its process is gone."""
    started: str
    """ISO 8601 in UTC."""
    ended: str | None
    planned: int
    answered: int
    failed: int
    header: Mapping[str, Json]
    """Everything needed to repeat it: versions, git commit, machine, seed, suite text, …"""


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """All scores that one scorer gave in one run (or in several, put side by side), as columns."""

    scorer: str
    kind: Kind
    variants: tuple[str, ...]
    """Ids, in the suite's order."""
    cases: tuple[str, ...]
    clusters: tuple[str | None, ...]
    variant: Sequence[int]
    """One entry a score from here on: position in `variants`, in `cases`,"""
    case: Sequence[int]
    repeat: Sequence[int]
    value: Sequence[float]
    """… and the value. Trials that failed or are unscored have no entry: they are counted in `missing`."""
    missing: tuple[int, ...] = ()
    """For each variant, how many of its trials have no score."""
    labels: tuple[str, ...] = ()
    """For the kind `label`: the texts; a value is a position in them."""


@dataclass(frozen=True, slots=True)
class CaseScores:
    """What `ScoreColumns` hold, added up over repeats: one entry a variant and case; of labels, and label."""

    scorer: str
    kind: Kind
    variants: tuple[str, ...]
    cases: tuple[str, ...]
    clusters: tuple[str | None, ...]
    variant: Sequence[int]
    case: Sequence[int]
    count: Sequence[int]
    value: Sequence[float]
    """The sum of `count` scores; of labels the position in `labels`."""
    lowest: float = 0.0
    highest: float = 0.0
    zero_or_one: bool = True
    """… of every single score."""
    missing: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
