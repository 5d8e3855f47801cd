"""Prompts: a `.prompty` file read into a `records.Prompt`, and a prompt rendered into messages.

Prompty's format (microsoft/prompty, spec/spec.md), version 2 and the keys of version 1. Where we differ, with
intent: an undefined variable is an error unless `template: {strict: false}`; a declared input is required
unless `required: false`, and one that is not required and has no value is empty and undefined; unknown keys
are errors; nothing of a connection is kept. Not supported, and refused with a line: other template engines,
images, audio and files as inputs, embedding and image models, tools other than functions, attributes of
roles. `![alt](path)` in a message stays text, as Prompty has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

from jinja2 import Undefined

from workbench.define.budget import Thread
from workbench.define.filters import names
from workbench.define.frontmatter import REFERENCE, read_front_matter, rewritten, with_partials
from workbench.define.properties import (
    Place,
    json_schema,
    read_inputs,
    read_options,
    read_outputs,
    read_tools,
    type_problem,
)
from workbench.define.roles import ROLES, check_markers, mark_roles, split_messages, thread_token
from workbench.define.template import Use, check_template, render_template, variable_uses
from workbench.errors import PromptError, suggest
from workbench.records import EMPTY, Input, Json, Message, Prompt, content_id

ENDING = ".prompty"
KEYS = names(
    "name displayName description metadata model inputs outputs tools template kind version authors tags "
    "sample inputSchema outputSchema partials"
)
MODEL_KEYS = names("id provider apiType options api configuration parameters response")
ENGINES = ("jinja2", "jinja", "nunjucks")
"""Template formats; Prompty's TypeScript runtime calls its Jinja so."""
APIS = {"chat", "responses", "completion"}


def parse_prompt(
    text: str,
    name: str = "",
    path: str | None = None,
    partials: Mapping[str, str] = EMPTY,
    allowed: Mapping[str, Json] = EMPTY,
) -> Prompt:
    """The prompt that a file's text holds; raises PromptError with file and line.

    `partials` are the sources of what the body includes, by name; partials inside the file come first.
    `allowed` has the values of references (`env:NAME`, `file:PATH`) that may be resolved.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    front = read_front_matter(text, path, allowed)
    data, place = front.data, front.place
    place.check_keys(data, KEYS)
    if data.get("kind", "prompt") != "prompt":
        raise (place / "kind").error(f"'kind: {data['kind']}' is not supported, only 'prompt'")
    model, options, raw, model_tools = _read_model(data.get("model"), place / "model")
    partials = {**partials, **_own_partials(data.get("partials"), place / "partials")}
    prompt = Prompt(
        name=name or str(data.get("name") or ""),
        revision="",
        template=front.body,
        inputs=_declared(data, place),
        partials=partials,
        tools=model_tools + read_tools(data.get("tools") or [], place / "tools"),
        outputs=_outputs(data, place),
        options=options,
        model=model,
        strict=_read_template(data.get("template"), place / "template"),
        description=str(data.get("description") or ""),
        tags=_tags(data, place),
        text=text,
        path=path,
        raw=raw,
    )
    return _checked(prompt)


def render_prompt(prompt: Prompt, inputs: Mapping[str, Json], case: str = "") -> tuple[Message, ...]:
    """The messages for these inputs; the same bytes on every machine. Values that are not declared are ignored.

    Raises PromptError that names the prompt, the variable and the case.
    """
    where = f" (case '{case}')" if case else ""
    values, threads = _values(prompt, inputs, where)
    source, partials = _marked(prompt)
    try:
        with _placed(prompt):
            rendered = render_template(source, partials, values, prompt.strict, prompt.path, line_offset(prompt))
    except PromptError as error:
        raise PromptError(error.message + where, error.path, error.line) from error
    messages = (Message.of("raw", rendered),) if prompt.raw else split_messages(rendered, threads)
    if not any(message.parts[0].value for message in messages):
        raise PromptError("the prompt renders to nothing" + where, prompt.path)
    return messages


def line_offset(prompt: Prompt) -> int:
    """Lines of the file before the template."""
    return prompt.text.count("\n") - prompt.template.count("\n") if prompt.text else 0


def unused_inputs(prompt: Prompt) -> list[str]:
    """Declared inputs that no template uses."""
    used = variable_uses(prompt.template, prompt.partials)
    return [i.name for i in prompt.inputs if i.name not in used]


def revision_of(prompt: Prompt) -> str:
    """Content id of everything in a prompt that can change a request: not its name, texts for people, or tags."""
    inputs = sorted([i.name, i.type, i.default, i.required] for i in prompt.inputs)
    parts = {
        "template": prompt.template,
        "partials": dict(prompt.partials),
        "inputs": inputs,
        "tools": list(prompt.tools),
        "outputs": list(prompt.outputs),
        "options": dict(prompt.options),
        "model": prompt.model,
        "strict": prompt.strict,
        "raw": prompt.raw,
    }
    return content_id("pr1", parts)


def output_schema(prompt: Prompt) -> Json:
    """The JSON Schema of the declared outputs; None where there are none."""
    return json_schema((output["name"], output) for output in prompt.outputs) if prompt.outputs else None


def self_contained(prompt: Prompt, allowed: Mapping[str, Json] = EMPTY) -> str:
    """The text of a file that gives this revision wherever it stands: with its partials, references resolved."""
    front = read_front_matter(prompt.text, prompt.path, allowed)
    if allowed and REFERENCE.search(prompt.text):
        return rewritten(front, prompt.partials)
    own = front.data.get("partials") or {}
    if set(prompt.partials) <= set(own):
        return prompt.text
    return rewritten(front, prompt.partials) if own else with_partials(prompt.text, prompt.partials)


@contextmanager
def _placed(prompt: Prompt) -> Iterator[None]:
    """Gives errors in a partial the partial's path: beside the library's prompts."""
    try:
        yield
    except PromptError as error:
        own = prompt.name + ENDING
        if error.path in prompt.partials and prompt.path and prompt.path.endswith(own):
            path = prompt.path.removesuffix(own) + str(error.path)
            raise PromptError(error.message, path, error.line) from error
        raise


def _checked(prompt: Prompt) -> Prompt:
    """The prompt with its inputs complete and its revision; raises PromptError where its parts don't agree."""
    offset = line_offset(prompt)
    with _placed(prompt):
        check_markers(prompt.template, prompt.path, offset)
        for name, source in prompt.partials.items():
            check_markers(source, name)
        uses = variable_uses(prompt.template, prompt.partials, prompt.path, offset)
        source, partials = _marked(prompt)
        check_template(source, partials, prompt.path, offset)
        declared = {i.name for i in prompt.inputs}
        for name, use in uses.items():
            if prompt.inputs and name not in declared:
                raise _undeclared(name, use, declared, prompt.path, offset)
    if not prompt.inputs:
        prompt = replace(prompt, inputs=tuple(Input(name, "any") for name in sorted(uses)))
    return replace(prompt, revision=revision_of(prompt))


def _undeclared(name: str, use: Use, declared: set[str], path: str | None, offset: int) -> PromptError:
    message = f"variable '{name}' is used but not among the declared inputs{suggest(name, declared)}"
    return PromptError(message, use.partial or path, use.line if use.partial else use.line + offset)


def _marked(prompt: Prompt) -> tuple[str, Mapping[str, str]]:
    if prompt.raw:
        return prompt.template, prompt.partials
    return _mark(prompt.template), {name: _mark(source) for name, source in prompt.partials.items()}


_mark = lru_cache(maxsize=1024)(mark_roles)


def _values(
    prompt: Prompt, inputs: Mapping[str, Json], where: str
) -> tuple[dict[str, Json], dict[str, Sequence[Message]]]:
    """The variables that the template sees, and the messages of the threads among them."""
    values: dict[str, Json] = {}
    threads: dict[str, Sequence[Message]] = {}
    for declared in prompt.inputs:
        name, value = declared.name, inputs.get(declared.name)
        if value is None and not (declared.type == "any" and name in inputs):
            value = declared.default
            if value is None and declared.required and prompt.strict:
                known = suggest(name, inputs) if inputs else ""
                message = f"input '{name}' has no value{where}{known}"
                raise PromptError(message if known else f"{message}; give it one, or a default", prompt.path)
        if declared.type == "thread":
            threads[name] = _thread(value or [], name, prompt.path, where)
            values[name] = Thread((m.to_json() for m in threads[name]), thread_token(name))
        elif value is None and not (declared.type == "any" and name in inputs):
            values[name] = Undefined(name=name)
        else:
            problem = type_problem(declared.type, value)
            if problem:
                raise PromptError(f"input '{name}' {problem}{where}", prompt.path)
            values[name] = int(value) if declared.type == "integer" and value is not None else value
    return values, threads


def _thread(value: Json, name: str, path: str | None, where: str) -> list[Message]:
    problem = type_problem("thread", value)
    if problem:
        raise PromptError(f"input '{name}' {problem}{where}", path)
    messages = []
    for number, item in enumerate(value, 1):
        try:
            message = item if isinstance(item, Message) else Message.from_json(item)
        except (KeyError, TypeError, IndexError) as error:
            shape = "a message is {role: …, content: …}"
            raise PromptError(f"message {number} of input '{name}' is not one{where}; {shape}", path) from error
        if message.role not in ROLES:
            known = suggest(str(message.role), ROLES)
            raise PromptError(f"message {number} of input '{name}' has the role '{message.role}'{where}{known}", path)
        messages.append(message)
    return messages


def _read_model(value: Json, place: Place) -> tuple[str | None, dict[str, Json], bool, tuple[Json, ...]]:
    """Model, options, whether the body is raw text, and the tools that version 1 keeps among the parameters."""
    if value is None or isinstance(value, str):
        return value, {}, False, ()
    model = place.mapping(value)
    place.check_keys(model, MODEL_KEYS)
    key = "apiType" if "apiType" in model else "api"
    api = model.get(key, "chat")
    if str(api) not in APIS:
        raise (place / key).error(f"'{key}: {api}' is not supported; use one of {', '.join(sorted(APIS))}")
    configuration = (place / "configuration").mapping(model.get("configuration") or {})
    name = model.get("id") or configuration.get("model") or configuration.get("azure_deployment")
    if name is not None and not isinstance(name, str):
        raise (place / "id").error("a model's id is text")
    if name and "openai" in (model.get("provider"), configuration.get("type")):
        name = f"openai:{name}"
    parameters = dict((place / "parameters").mapping(model.get("parameters") or {}))
    tools = read_tools(parameters.pop("tools", None) or [], place / "parameters" / "tools")
    options = read_options(parameters, place / "parameters")
    options |= read_options((place / "options").mapping(model.get("options") or {}), place / "options")
    return name, options, api == "completion", tools


def _declared(data: Mapping[str, Json], place: Place) -> tuple[Input, ...]:
    key = "inputs" if "inputs" in data else "inputSchema"
    samples = data.get("sample")
    return read_inputs(data.get(key) or [], place / key, samples if isinstance(samples, dict) else {})


def _outputs(data: Mapping[str, Json], place: Place) -> tuple[Json, ...]:
    key = "outputs" if "outputs" in data else "outputSchema"
    return read_outputs(data.get(key) or [], place / key)


def _read_template(value: Json, place: Place) -> bool:
    """Whether undefined variables are errors; raises PromptError for another template language or parser."""
    settings = {"format": value} if isinstance(value, str) else place.mapping(value or {})
    place.check_keys(settings, ["format", "parser", "strict", "type"])
    for key, known in (("format", ENGINES), ("type", ENGINES), ("parser", ("prompty",))):
        given = settings.get(key)
        kind = given.get("kind") if isinstance(given, dict) else given
        if kind is not None and str(kind) not in known:
            raise (place / key).error(f"template {key} '{kind}' is not supported; use {known[0]}")
    strict = settings.get("strict", True)
    if not isinstance(strict, bool):
        raise (place / "strict").error("'strict' must be true or false")
    return strict


def _own_partials(value: Json, place: Place) -> dict[str, str]:
    partials = place.mapping(value or {})
    for name, source in partials.items():
        if not isinstance(source, str):
            raise (place / name).error("a partial is text")
    return partials


def _tags(data: Mapping[str, Json], place: Place) -> tuple[str, ...]:
    metadata = (place / "metadata").mapping(data.get("metadata") or {})
    tags = data.get("tags") or metadata.get("tags") or []
    return tuple(map(str, tags)) if isinstance(tags, list) else (str(tags),)
