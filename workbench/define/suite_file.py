"""What may stand in a suite's file: one class a mapping, one docstring a key.

The JSON Schema that editors complete by is made from these classes (`workbench schema suite`).
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from workbench.define.gates import MOST_CONFIDENCE, GateEntry
from workbench.define.yamlfile import Strict
from workbench.records import Json

T = TypeVar("T")
Many = Annotated[
    Annotated[T, Tag("one value")] | Annotated[list[T], Tag("a list")],
    Discriminator(lambda value: "a list" if isinstance(value, list) else "one value"),
]
"""One value, or a list of them."""


def as_list(value: Any) -> list[Any]:
    """What `Many` stands for."""
    return value if isinstance(value, list) else [value]


TextOr = Annotated[
    Annotated[str, Tag("text")] | Annotated[T, Tag("a mapping")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "a mapping"),
]
"""A text, or something with more to say."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: Json) -> float:
    """Seconds of `90s`, `30m`, `2h`, `7d` or a number of seconds; raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(value)
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([smhd])", value) if isinstance(value, str) else None
    if found is None or float(found[1]) == 0:
        raise ValueError(f"must be a time such as 90s, 30m, 2h or 7d, not '{value}'")
    return float(found[1]) * _SECONDS[found[2]]


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": "^[0-9]"}]}),
]


def _whole_duration(value: str) -> str:
    if not re.fullmatch("[0-9]+[smhd]", value):
        raise ValueError(f"must be a time such as 12h or 7d, not '{value}'")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Confidence = Annotated[float, Field(ge=0.5, le=MOST_CONFIDENCE)]


class ModelUse(Strict):
    """A model with settings of its own."""

    use: str
    """An alias, `alias+q8_0`, or `engine:rest`, such as `openai:gpt-5-mini` or `llama:models/x.gguf`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters that stand above the suite's, for this model only. They are no axes."""
    without: list[str] = Field(default_factory=list)
    """Names of parameters that this model does not take."""

    @model_validator(mode="after")
    def _no_axes(self) -> ModelUse:
        for name, value in self.params.items():
            if isinstance(value, list) and name != "stop":
                raise ValueError(f"gives a list for '{name}': axes stand in the suite's params")
        return self


class RecordedUse(Strict):
    """Answers that exist already: nothing is asked."""

    recorded: str
    """A data file inside the project, such as data/answers.jsonl, a row an answer."""
    field: str = "text"
    """The field that holds the answer."""
    id: str | None = None
    """The field that names the case; default `id` where there is one, else a hash of the row, as for cases."""
    name: str | None = Field(None, alias="as")
    """How it is called; default: the file's name without its ending."""

    @property
    def alias(self) -> str:
        return self.name or PurePath(self.recorded).stem


def _entry_kind(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    return "answers that exist" if isinstance(value, RecordedUse) or "recorded" in value else "a mapping"


ModelEntry = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[ModelUse, Tag("a mapping")]
    | Annotated[RecordedUse, Tag("answers that exist")],
    Discriminator(_entry_kind),
]


def alias_of(entry: str | ModelUse | RecordedUse) -> str:
    """What the suite calls the model of an entry."""
    return entry if isinstance(entry, str) else entry.use if isinstance(entry, ModelUse) else entry.alias


class Answer(Strict):
    """The wanted form of the answer: one of four."""

    choices: Many[str] | None = None
    """The possible answers: a list of texts, or a template over the case's inputs."""
    text: str | None = None
    """A template over the case's inputs; its text is not written but read: how likely the model finds it."""
    json_schema: TextOr[dict[str, Any]] | None = Field(None, alias="schema")
    """A JSON Schema, or the name of a file that holds one."""
    grammar: str | None = None
    """A GBNF grammar, or the name of a file that holds one."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Answer:
        if sum(value is not None for value in (self.choices, self.text, self.json_schema, self.grammar)) != 1:
            raise ValueError("needs exactly one of choices, text, schema, grammar")
        return self


class VariantEntry(Strict):
    """One variant, written out."""

    prompt: str | None = None
    """The prompt; may be left out where `prompts` names just one."""
    model: ModelEntry | None = None
    """The model; may be left out where `models` names just one, or the prompt names its own."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters that stand above the suite's."""
    vars: dict[str, Any] = Field(default_factory=dict)
    """Template inputs that stand above the suite's and the case's."""
    answer: Answer | None = None
    """The wanted form of the answer."""
    logprobs: Annotated[int, Field(ge=0)] | None = None
    """How many alternatives a token to report."""


class CasesFile(Strict):
    """Cases of a file, or `rows` written here, and which field plays which part."""

    file: str | None = None
    """JSONL, JSON, CSV, TSV or Parquet, inside the project."""
    rows: list[dict[str, Any]] | None = None
    """The rows themselves, in place of a file."""
    format: Literal["jsonl", "json", "csv", "tsv", "parquet"] | None = None
    """Default: by the file's ending."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """How many cases to draw; the same ones each time."""
    sample_seed: int = 0
    """Which cases `limit` draws."""
    where: dict[str, Any] = Field(default_factory=dict)
    """Only rows whose fields have these values; a list gives several allowed values."""
    held_out: Many[str] | None = None
    """Only cases that were held out of training, by the .cases.json of `workbench export training`; or several."""
    id: str | None = None
    """The field that names a case; default `id` where there is one, else a hash of the row."""
    expected: str | None = None
    """The field with the expected answer; default `expected` where there is one."""
    cluster: str | None = None
    """The field that says which rows belong together; default `cluster` where there is one."""
    tags: Many[str] | None = None
    """The field or fields with tags: a list, or text with commas; default `tags` where there is one."""
    messages: str | None = None
    """The field with a chat history, a list of {role, content}; default `messages` where there is one."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """Other names for fields: `{input: field}`. Every field is an input by its own name, too."""
    quarantine: list[str | int] = Field(default_factory=list)
    """Ids of cases that are asked and shown, but count in no mean, comparison or gate. All reports say how many."""

    @model_validator(mode="after")
    def _one_source(self) -> CasesFile:
        if (self.file is None) == (self.rows is None):
            raise ValueError("needs one of 'file' and 'rows'")
        return self


def _cases_kind(value: Json) -> str:
    if isinstance(value, str):
        return "a file name"
    return "a list" if isinstance(value, list) else "a mapping"


Cases = Annotated[
    Annotated[str, Tag("a file name")]
    | Annotated[list[dict[str, Any]], Tag("a list")]
    | Annotated[CasesFile, Tag("a mapping")],
    Discriminator(_cases_kind),
]


class Chunk(Strict):
    """How documents are cut into passages. A list of numbers is an axis of the sweep."""

    words: Many[Annotated[int, Field(ge=1)]]
    """The most words of a passage; where a script parts no words, characters."""
    overlap: Many[Annotated[int, Field(ge=0)]] = 0
    """How many words of its end the next passage begins with."""


class DocumentsFile(Strict):
    """A file of documents, and which field plays which part."""

    file: str
    """JSONL, JSON, CSV, TSV or Parquet, inside the project."""
    id: str = "id"
    """The field that names a document."""
    text: str = "text"
    """The field with its text."""


class Retrieve(Strict):
    """Passages of documents that are looked up for each case and given to the prompt."""

    documents: TextOr[DocumentsFile]
    """A file with `id` and `text`, or {file, id, text} with the fields' names."""
    query: str
    """A template over the case's inputs: what is looked up."""
    search: Many[str] = "words"
    """`words` (BM25, no model), or the alias of a model that embeds; a list is an axis."""
    k: Many[Annotated[int, Field(ge=1)]] = 3
    """How many passages a prompt gets at most; a list is an axis."""
    chunk: Chunk | None = None
    """How documents are cut; default: each is one passage."""
    into: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] = "passages"
    """The prompt's input that gets them: a list of {id, document, text, score}, the best first."""


class Until(Strict):
    """Stop as soon as it is settled how each variant stands to the reference."""

    smaller_than: Annotated[float, Field(gt=0)]
    """The difference that no longer matters: it is settled when it is shown to be smaller, or not to be 0."""
    confidence: Confidence = 0.95
    """How sure, over all looks at the data and all variants together."""
    scorer: str | None = None
    """The scorer that decides; default: the first."""


class Race(Strict):
    """Drop variants that can no longer be among the best."""

    keep: Annotated[int, Field(ge=1)] = 1
    """How many of the best are wanted."""
    confidence: Confidence = 0.95
    """How sure that none of the best is dropped, over all looks at the data and all variants together."""
    scorer: str | None = None
    """The scorer that decides, higher being better; default: the first."""


class Budget(Strict):
    """What a run may use; it stops before it would use more."""

    cost: Annotated[float, Field(gt=0)] | None = None
    """US dollars."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """Prompt and output tokens."""
    time: Duration | None = None
    """Such as 90s, 30m, 2h."""


class Reuse(Strict):
    """Which stored answers may stand for new ones."""

    max_age: Annotated[str, AfterValidator(_whole_duration)] | None = None
    """Answers of hosted models that are older are asked anew; such as 12h or 7d."""


class SuiteFile(Strict):
    """A suite: which prompts, models and parameters are compared on which cases, and how they are scored."""

    name: str | None = None
    """Default: the file's name without its ending."""
    stage: Literal["select", "prompt", "evaluate", "fine-tune", "ship"] = "prompt"
    """The stage of the life cycle that its runs belong to."""
    description: str = ""
    """What the suite is about, for people."""
    prompts: Many[str] = Field(default_factory=list)
    """Names in the library, also NAME@LABEL and NAME@REVISION."""
    models: Many[ModelEntry] = Field(default_factory=list)
    """Aliases, {use, params, without}, or {recorded, field} for answers that exist; default: the prompts' own."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Sampling parameters; a list is an axis. `stop: [a, b]` is one value, `stop: [[a], [b]]` an axis."""
    vars: dict[str, Any] = Field(default_factory=dict)
    """Template inputs that the sweep sets; a list is an axis, [[…]] one value that is a list."""
    retrieve: Retrieve | None = None
    """Passages to look up for each case."""
    answer: Many[Answer] | None = None
    """The wanted form of the answer, or a list of such as an axis."""
    logprobs: Many[Annotated[int, Field(ge=0)]] = 0
    """How many alternatives a token to report, or a list as an axis."""
    axes: Literal["product", "zip"] = "product"
    """`product`: every combination; `zip`: the first values of all axes, then the second, …"""
    variants: list[VariantEntry] = Field(default_factory=list)
    """The variants one by one, in place of axes."""
    repeats: Annotated[int, Field(ge=1)] | None = None
    """How often each case is asked; default 1."""
    cases: Cases
    """A file name, {file: …} with its mapping, or the rows themselves."""
    scorers: list[TextOr[dict[str, Any]]] = Field(default_factory=list)
    """Scorers: NAME, {NAME: {settings}} or {NAME: value}; `as: OTHER` gives a second one another name."""
    reference: dict[str, Any] | None = None
    """The variant that the others are compared with, such as {prompt: zero-shot}; default: the first."""
    margin: Annotated[float, Field(gt=0)] = 0.05
    """The smallest difference that matters."""
    gates: list[GateEntry] = Field(default_factory=list)
    """Rules that decide whether a run passes."""
    until: Until | None = None
    """Ask no more cases than it takes to settle how each variant stands to the reference."""
    race: Race | None = None
    """Ask a variant only as long as it can be among the best."""
    budget: Budget = Budget()
    """What a run may use."""
    reuse: Reuse = Reuse()
    """Which stored answers may be used again."""
    seed: int = 0
    """Enters every trial's seed."""
    block: Annotated[int, Field(ge=1)] = 16
    """How many cases are asked together."""
    allow_failed: Share = 0.0
    """The share of trials that may stay without an answer, or without a score that could not be made."""
    exact: bool = False
    """Local models answer each request as if it were alone: slower, and repeats exactly."""
