"""What a suite's cases must hold, told before anything is asked, with the line of what lacks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.define.properties import type_problem
from workbench.define.suite_file import SuiteFile, as_list
from workbench.define.template import variables_used
from workbench.define.yamlfile import Located
from workbench.errors import DataError, SuiteError, suggest
from workbench.records import EMPTY, Case, Input, Prompt, ScorerSpec, Variant


def check_inputs(
    variants: Sequence[Variant], prompts: Mapping[str, Prompt], cases: tuple[Case, ...], located: Located
) -> None:
    """Raises SuiteError for a value in `vars`, DataError for the first case, that its prompt can't take."""
    known = {i.name: None for prompt in prompts.values() for i in prompt.inputs}
    for variant in variants:
        types = {i.name: i.type for i in prompts[variant.revision].inputs}
        for name, value in variant.vars.items():
            with located.at("vars", name):
                if name not in known:
                    raise SuiteError(f"no prompt has an input '{name}'{suggest(name, known)}")
                if problem := type_problem(types.get(name, "any"), value):
                    raise SuiteError(f"vars.{name} {problem}, as prompt '{variant.prompt}' wants it")
    asked = {(v.revision, frozenset(v.vars)): prompts[v.revision] for v in variants}
    for case in cases:
        for (_, given), prompt in asked.items():
            for declared in prompt.inputs:
                if declared.name not in given:
                    _check_input(case, declared, prompt)


def _check_input(case: Case, declared: Input, prompt: Prompt) -> None:
    """Refuses what `render_prompt` would refuse in the middle of a run."""
    value = case.inputs.get(declared.name)
    if value is None and not (declared.type == "any" and declared.name in case.inputs):
        if declared.required and declared.default is None and prompt.strict:
            raise _lacks(case, declared.name, f"prompt '{prompt.name}'")
    elif problem := type_problem(declared.type, value):
        wanted = f"'{declared.name}' {problem}, as prompt '{prompt.name}' wants it"
        raise DataError(f"case '{case.id}': {wanted}", *case.place)


def check_templates(
    scorers: tuple[ScorerSpec, ...], file: SuiteFile, cases: tuple[Case, ...], located: Located
) -> None:
    """Raises DataError for the first case that lacks what an expected answer or the answer's form needs."""
    templates = [(f"the expected answer of scorer '{s.name}'", s.expected, "scorers") for s in scorers if s.expected]
    forms = [*as_list(file.answer or []), *(entry.answer for entry in file.variants if entry.answer)]
    choices = [form.choices for form in forms if isinstance(form.choices, str)]
    templates += [("the choices of the answer", template, "answer") for template in choices]
    templates += [("the query of 'retrieve'", file.retrieve.query, "retrieve")] if file.retrieve else []
    templates += [("the text of the answer", form.text, "answer") for form in forms if form.text is not None]
    for what, template, key in templates:
        with located.at(key):
            used = variables_used(template, EMPTY) - {"expected"}  # the case's own answer, which may be None
        for name in sorted(used):
            for case in cases:
                if name not in case.inputs:
                    raise _lacks(case, name, what)


def _lacks(case: Case, name: str, what: str) -> DataError:
    hint = "; it is null there" if name in case.inputs else suggest(name, case.inputs)
    return DataError(f"case '{case.id}' has no value for '{name}', which {what} needs{hint}", *case.place)
