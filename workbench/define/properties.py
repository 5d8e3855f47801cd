"""Prompty's properties: inputs, outputs, the parameters of tools, and the options of a model, in our words.

Sources: Prompty's specification 2.6–2.9 and 7.1.3–7.1.4, and version 1's keys; option names as in llama.cpp's
server and OpenAI's chat API.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from workbench.define.filters import names
from workbench.define.yamlfile import KeyPath
from workbench.errors import PromptError, suggest
from workbench.records import Input, Json

KINDS = {
    "string": "string",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "boolean": "boolean",
    "array": "array",
    "list": "array",
    "object": "object",
    "thread": "thread",
    "any": "any",
}
"""Prompty's kinds → ours, which but for `thread` and `any` are those of JSON Schema."""
MEDIA = ("image", "audio", "file")

PROPERTY_KEYS = names(
    "name kind type description required is_required default example sample enumValues enum items properties strict"
)

OPTIONS = {
    "maxOutputTokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "maxTokens": "max_tokens",
    "topP": "top_p",
    "topK": "top_k",
    "minP": "min_p",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "stopSequences": "stop",
    "stop_sequences": "stop",
    "allowMultipleToolCalls": "parallel_tool_calls",
}
"""Other names of options → ours."""
NUMBERS = names(
    "temperature top_p min_p typical_p presence_penalty frequency_penalty repeat_penalty dynatemp_range "
    "dynatemp_exponent xtc_probability xtc_threshold dry_multiplier dry_base mirostat_tau mirostat_eta"
)
INTEGERS = names("top_k max_tokens seed repeat_last_n min_keep mirostat dry_allowed_length dry_penalty_last_n")
OTHERS = names(
    "stop logit_bias parallel_tool_calls tool_choice response_format reasoning_effort verbosity samplers "
    "ignore_eos service_tier user"
)
REFUSED = {
    "n": "write 'repeats' in the suite",
    "logprobs": "ask for them in the suite",
    "top_logprobs": "ask for them in the suite",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a prompt's front matter, for errors that name file and line."""

    path: str | None
    lines: Mapping[KeyPath, int]
    at: KeyPath = ()

    def __truediv__(self, key: str | int) -> Place:
        return Place(self.path, self.lines, (*self.at, key))

    @property
    def line(self) -> int | None:
        at = self.at
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at)

    @property
    def name(self) -> str:
        return ".".join(map(str, self.at))

    def error(self, message: str) -> PromptError:
        return PromptError(message, self.path, self.line)

    def check_keys(self, value: Mapping[str, Json], known: Collection[str]) -> None:
        """Raises PromptError at the first key that is not known."""
        for key in value:
            if key not in known:
                raise (self / key).error(f"unknown key '{key}'{suggest(key, known)}")

    def mapping(self, value: Json) -> dict[str, Json]:
        if not isinstance(value, dict):
            raise self.error(f"'{self.name}' must be a mapping (key: value)")
        return value


def read_inputs(value: Json, place: Place, samples: Mapping[str, Json]) -> tuple[Input, ...]:
    """The declared inputs; `samples` are examples by name, as version 1 has them. Raises PromptError."""
    inputs = []
    for name, given, at in _properties(value, place):
        kind = _kind(given, at)
        default = given.get("default")
        if kind == "thread" and default == {}:
            default = None  # how some write a conversation that has not begun
        problem = type_problem(kind, default)
        if default is not None and problem:
            raise (at / "default").error(f"the default of '{name}' {problem}")
        inputs.append(
            Input(
                name,
                kind,
                default,
                given.get("example", given.get("sample", samples.get(name))),
                _flag(given, at, "required", "is_required", default=kind != "thread"),
                str(given.get("description") or ""),
            )
        )
    return tuple(inputs)


def read_outputs(value: Json, place: Place) -> tuple[Json, ...]:
    """The declared outputs as they are written, each with its name and a kind that is ours. Raises PromptError."""
    outputs = []
    for name, given, at in _properties(value, place):
        rest = {k: v for k, v in given.items() if k not in ("name", "kind", "type")}
        outputs.append({"name": name, "kind": _kind(given, at), **rest})
    return tuple(outputs)


def read_tools(value: Json, place: Place) -> tuple[Json, ...]:
    """Function tools in the shape of OpenAI's chat API; raises PromptError for other kinds.

    Parameters that `bindings` fill are taken out, since the model must not see them (specification, 2.9.1).
    """
    if not isinstance(value, list):
        raise place.error("'tools' must be a list")
    return tuple(_tool((place / i).mapping(tool), place / i) for i, tool in enumerate(value))


def read_options(value: Mapping[str, Json], place: Place, open_ended: bool = False) -> dict[str, Json]:
    """Sampling parameters in our names; raises PromptError.

    `additionalProperties` are merged, and may hold names that we don't know, as may an `open_ended` mapping.
    `stream` is dropped: it is how an answer travels, not what is asked.
    """
    options: dict[str, Json] = {}
    for key, given in value.items():
        at, name = place / key, OPTIONS.get(key, key)
        if key == "additionalProperties":
            read = read_options(at.mapping(given), at, open_ended=True)
        elif key == "stream" or given is None:
            continue
        elif name in REFUSED:
            raise at.error(f"'{key}' is not an option of a prompt; {REFUSED[name]}")
        else:
            read = {name: _option(name, given, at, open_ended)}
        for name in read:
            if name in options:
                raise at.error(f"'{key}' sets {name}, which is set already; remove one")
        options |= read
    return options


def json_schema(properties: Iterable[tuple[str, Mapping[str, Json]]]) -> dict[str, Json]:
    """The JSON Schema of an object with these properties (specification, 7.1.4)."""
    parts, required = {}, []
    for name, given in properties:
        parts[name] = _schema(given)
        if given.get("required") is True:
            required.append(name)
    schema: dict[str, Json] = {"type": "object", "properties": parts}
    return {**schema, "required": required} if required else schema


def type_problem(kind: str, value: Json) -> str:
    """What is wrong with a value for an input of that type, or empty. A string takes every scalar."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str | bool | int | float),
        "integer": is_number and value == int(value) if is_number else False,
        "number": is_number,
        "boolean": isinstance(value, bool),
        "array": isinstance(value, list | tuple),
        "object": isinstance(value, Mapping),
        "thread": isinstance(value, list | tuple),
        "any": True,
    }[kind]
    wanted = "list of messages" if kind == "thread" else kind
    return "" if fits else f"is {_shown(value)}, which is not of type {wanted}"


def _shown(value: Json) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:39] + "…"


def _properties(value: Json, place: Place) -> Iterator[tuple[str, dict[str, Json], Place]]:
    """Name, property and place of each, from a list, a mapping, or `{properties: …}`."""
    if isinstance(value, dict) and set(value) == {"properties"}:
        place = place / "properties"
        value = value["properties"]
    if not isinstance(value, list | dict):
        raise place.error(f"'{place.name}' must be a list or a mapping")
    seen = set()
    for key, written in enumerate(value) if isinstance(value, list) else value.items():
        at = place / key
        given = at.mapping(_shorthand(written, at) if isinstance(value, dict) else written)
        at.check_keys(given, PROPERTY_KEYS)
        name = given.get("name", key)
        if not isinstance(name, str) or not name.isidentifier():
            raise at.error(f"'{name}' is no name for a variable; use letters, digits and _")
        if name in seen:
            raise at.error(f"'{name}' is declared twice; remove one")
        seen.add(name)
        yield name, given, at


def _shorthand(given: Json, at: Place) -> Json:
    """The property that a value of a mapping stands for: itself, or only its default (specification, 2.7)."""
    if isinstance(given, dict) and (not given or set(given) & set(PROPERTY_KEYS)):
        return given
    if given is None:
        return {}
    if isinstance(given, str) and given in KINDS:
        raise at.error(f"'{given}' could be a kind or a default; write {{kind: {given}}} or {{default: {given}}}")
    return {"kind": _inferred(given), "default": given}


def _inferred(value: Json) -> str:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "any")


def _kind(given: Mapping[str, Json], at: Place) -> str:
    key = "kind" if "kind" in given else "type"
    kind = given.get(key) or _inferred(given.get("default"))
    if kind in MEDIA:
        raise (at / key).error(f"{kind} inputs are not supported; inputs are text, numbers, lists, objects and threads")
    if not isinstance(kind, str) or kind not in KINDS:
        raise (at / key).error(f"unknown kind '{kind}'{suggest(str(kind), KINDS)}")
    return KINDS[kind]


def _flag(given: Mapping[str, Json], at: Place, *names: str, default: bool) -> bool:
    for name in names:
        if name in given and not isinstance(given[name], bool):
            raise (at / name).error(f"'{name}' must be true or false")
    return bool(next((given[name] for name in names if name in given), default))


def _schema(given: Mapping[str, Json]) -> dict[str, Json]:
    kind = KINDS.get(str(given.get("kind", given.get("type"))), "any")
    schema: dict[str, Json] = {} if kind == "any" else {"type": "array" if kind == "thread" else kind}
    if given.get("description"):
        schema["description"] = given["description"]
    values = given.get("enumValues", given.get("enum"))
    if values:
        schema["enum"] = values
    if kind == "array" and isinstance(given.get("items"), dict):
        schema["items"] = _schema(given["items"])
    inner = given.get("properties")
    if kind == "object" and isinstance(inner, list | dict):
        pairs = [(p.get("name", ""), p) for p in inner] if isinstance(inner, list) else list(inner.items())
        schema |= json_schema(pairs)
    return schema


def _tool(tool: dict[str, Json], at: Place) -> Json:
    if tool.get("type") == "function" and "function" in tool:
        if not isinstance((at / "function").mapping(tool["function"]).get("name"), str):
            raise at.error("a function needs a 'name'")
        return tool
    kind = tool.get("kind")
    if kind != "function":
        raise (at / "kind").error(f"tools of kind '{kind}' are not supported, only 'function'")
    at.check_keys(tool, ["name", "kind", "description", "parameters", "strict", "bindings"])
    if not isinstance(tool.get("name"), str):
        raise at.error("a tool needs a 'name'")
    bound = (at / "bindings").mapping(tool.get("bindings") or {})
    found = _properties(tool.get("parameters") or [], at / "parameters")
    parameters = [(name, {**p, "kind": _kind(p, place)}) for name, p, place in found if name not in bound]
    function: dict[str, Json] = {"name": tool["name"], "parameters": json_schema(parameters)}
    if tool.get("description"):
        function["description"] = tool["description"]
    if _flag(tool, at, "strict", default=False):
        function["strict"] = True
        function["parameters"]["additionalProperties"] = False
    return {"type": "function", "function": function}


def _option(name: str, given: Json, at: Place, open_ended: bool) -> Json:
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if name in NUMBERS and not number:
        raise at.error(f"'{at.at[-1]}' must be a number")
    if name in INTEGERS and not (number and isinstance(given, int)):
        raise at.error(f"'{at.at[-1]}' must be a whole number")
    if name == "stop":
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise at.error(f"'{at.at[-1]}' must be a text or a list of texts")
        return texts
    if not open_ended and name not in NUMBERS | INTEGERS | OTHERS:
        raise at.error(f"unknown option '{name}'{suggest(name, (*NUMBERS, *INTEGERS, *OTHERS, *OPTIONS))}")
    return given
