"""Spans of requests and of what asks them, for OpenTelemetry, where its own environment variables ask for them.

Names are those of the semantic conventions for generative AI
(https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md) and for test suites:

    run SUITE | retrieve SUITE | score RUN | collect RUN | calibrate RUBRIC     test.suite.*, workbench.*
    └ chat MODEL  (one a request)                              gen_ai.*, server.*, error.type

A try in the playground is a span by itself. What a dispatcher asks (trials, judges, what is asked again to measure
latency) becomes a span when its answer comes, at `Spans.answered`; what a batch has answered when it is collected, with
the batch's own times, at `Spans.told`, by which the other goes, too.

Spans are sent by a thread of the SDK; its queue drops what does not fit. Nothing here can end or hold up a run: at
the end it waits `FLUSH_SECONDS` at most, and what could not be sent is said in a line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from workbench.engines.base import Engine
from workbench.records import EMPTY, Json, Message, Model, Output, Request, Suite

FLUSH_SECONDS = 2.0
QUEUE = 20_000
"""Spans that wait to be sent at most, where OTEL_BSP_MAX_QUEUE_SIZE does not say."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
HTTP = "http/protobuf"
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PROVIDERS = {  # end of the host's name: the convention's name of the provider
    "api.openai.com": "openai",
    ".openai.azure.com": "azure.ai.openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}
OWN_PROVIDERS = {"bedrock": "aws.bedrock"}
PARAMS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "max_tokens": "max_tokens",
    "frequency_penalty": "frequency_penalty", "presence_penalty": "presence_penalty", "stop": "stop_sequences",
}  # fmt: skip
STATUS = {"complete": "success", "stopped": "aborted", "failed": "failure"}


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the standard variables ask for traces: an OTLP address, or an exporter by name."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return exporter != "none" if exporter else any(environment.get(name) for name in ENDPOINTS)


def about_run(run: str, suite: Suite) -> dict[str, Json]:
    """What the span of a suite's run tells."""
    return {
        "test.suite.name": suite.name,
        "workbench.run.id": run,
        "workbench.stage": suite.stage,
        "workbench.variants": len(suite.variants),
        "workbench.cases": len(suite.cases),
    }


def open_spans(
    title: str, about: Mapping[str, Json], models: Mapping[str, Model], engines: Mapping[str, Engine]
) -> tuple[Spans | None, str]:
    """The spans of what begins now and asks these models, by the names that requests have for them; without a title
    requests stand by themselves. None where no traces are asked for, or with the reason where they can't be had."""
    if not wanted(os.environ):
        return None, ""
    try:
        sender = _Sender(_exporter(os.environ))
        return Spans(sender, (title, about), models, engines), ""
    except ImportError:
        return None, "no traces: OpenTelemetry is not installed; pip install 'prompt-workbench[otel]'"
    except Exception as error:  # noqa: BLE001 - whatever the SDK says of its settings, the run goes on
        return None, f"no traces: {error}"


class Spans:
    """One span and those inside it; may be told of answers from any thread."""

    def __init__(
        self,
        sender: _Sender,
        root: tuple[str, Mapping[str, Json]],
        models: Mapping[str, Model],
        engines: Mapping[str, Engine],
    ) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace, self._sender, self._models, self._engines = trace, sender, models, engines
        self._content = os.environ.get(CONTENT, "").strip().lower() in ("true", "span_only", "span_and_event")
        # a CI job that traces itself hands its own span down in TRACEPARENT
        parent = TraceContextTextMapPropagator().extract({"traceparent": os.environ.get("TRACEPARENT", "")})
        title, about = root
        self._root = sender.tracer.start_span(title, parent, attributes=dict(about)) if title else None
        self._inside = trace.set_span_in_context(self._root) if self._root else parent
        self._places: dict[str, dict[str, Json]] = {}

    def answered(self, request: Request, began: int, future: Future[Output]) -> None:
        """One span of a request that has ended; `began` (nanoseconds of the clock) counts where the engine did not
        time the call itself. What was given back unanswered has none."""
        ended = time.time_ns()
        error = future.exception()
        output = None if error else future.result()
        if output is not None and output.failure and output.failure.kind == "cancelled":
            return
        if output is not None and output.seconds is not None:
            began = ended - int(output.seconds * 1e9)
        self.told(request, output or error, began, ended)

    def told(
        self,
        request: Request,
        result: Output | BaseException | None,
        began: int,
        ended: int,
        about: Mapping[str, Json] = EMPTY,
    ) -> None:
        """A request's span, from what came of it."""
        output = result if isinstance(result, Output) else Output(request.id)
        kind = type(result).__name__ if output is not result else output.failure.kind if output.failure else ""
        place = self._place(request.model)
        operation = _operation(request)
        local = self._engines[request.model].in_process
        span = self._sender.tracer.start_span(
            f"{operation} {place['gen_ai.request.model']}",
            self._inside,
            kind=self._trace.SpanKind.INTERNAL if local else self._trace.SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": operation, **place, **_asked(request), **about},
            start_time=began,
        )
        span.set_attributes({"error.type": kind} if kind else _answer(output))
        if kind:  # without its message, which may hold what was asked
            span.set_status(self._trace.StatusCode.ERROR)
        if self._content:
            span.set_attributes(_content(request, None if kind else output))
        self._sender.end(span, ended)

    def close(self, status: str) -> str:
        """Ends the span; returns what could not be sent, in words."""
        try:
            if self._root is not None:
                self._root.set_attribute("test.suite.run.status", STATUS.get(status, status))
                if status == "failed":
                    self._root.set_status(self._trace.StatusCode.ERROR)
                self._sender.end(self._root)
            return self._sender.close()
        except Exception as error:  # noqa: BLE001 - the run has ended well, whatever became of its spans
            return f"traces: {error}"

    def _place(self, alias: str) -> dict[str, Json]:
        """Who answers for an alias."""
        if alias not in self._places:
            model = self._models.get(alias) or Model(alias, type(self._engines[alias]).__name__)
            self._places[alias] = _place(model, self._engines[alias])
        return self._places[alias]


class _Sender:
    """The SDK's pipeline for one `Spans`: our own, never the process's global one."""

    def __init__(self, exporter: Any) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # the SDK tells of each failed export in the log: unless somebody listens, close() says it once
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "workbench"}
        self._exporter = _Counting(exporter)
        self._provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
        most = None if os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") else QUEUE
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=most))
        self._made, self._lock = 0, Lock()
        self.tracer = self._provider.get_tracer("workbench")

    def end(self, span: Any, at: int | None = None) -> None:
        """Hands a span on; `at` in nanoseconds of the clock, None: now."""
        if span.is_recording():  # else it was not sampled
            with self._lock:
                self._made += 1
        span.end(at)

    def close(self) -> str:
        ending = Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)
        self._exporter.shutdown()  # else its thread tries again for as long as the exporter's own time limit
        lost = self._made - self._exporter.sent
        return f"traces: {lost} of {self._made} spans could not be sent; is the collector up?" if lost > 0 else ""


class _Counting:
    """An exporter that counts the spans that were taken."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._ended = Lock()
        self.sent = 0

    def export(self, spans: Sequence[Any]) -> Any:
        result = self._inner.export(spans)
        self.sent += len(spans) if result.name == "SUCCESS" else 0
        return result

    def shutdown(self) -> None:
        if self._ended.acquire(blocking=False):
            self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._inner.force_flush(timeout_millis))


def _exporter(environment: Mapping[str, str]) -> Any:
    """The exporter that the variables name; it reads address, headers and the rest from them itself."""
    name = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if name != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER={name} is not known here; set it to otlp, console or none")
    general = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or general or HTTP
    if protocol != HTTP:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} is not spoken here; set it to {HTTP}")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _place(model: Model, engine: Engine) -> dict[str, Json]:
    """Provider, model and server; an address may hold a key, so that only host and port are told."""
    address = urlsplit(str(engine.describe().get("address") or ""))
    host = address.hostname or ""
    known = next((name for end, name in PROVIDERS.items() if host.endswith(end)), None)
    place: dict[str, Json] = {
        "gen_ai.provider.name": known or OWN_PROVIDERS.get(model.engine, model.engine),
        "gen_ai.request.model": str(model.settings.get("model") or model.alias),
        "workbench.model": model.alias,
    }
    if host:
        port = address.port or (80 if address.scheme == "http" else 443)
        place |= {"server.address": host, "server.port": port}
    return place


def _operation(request: Request) -> str:
    if request.answer.get("embedding"):
        return "embeddings"
    return "text_completion" if request.messages and request.messages[0].role == "raw" else "chat"


def _asked(request: Request) -> dict[str, Json]:
    told: dict[str, Json] = {"workbench.request.id": request.id, "workbench.repeat": request.repeat}
    for name, value in request.params.items():
        if name in PARAMS and value is not None:
            told[f"gen_ai.request.{PARAMS[name]}"] = [value] if name == "stop" and isinstance(value, str) else value
    if request.seed is not None:
        told["gen_ai.request.seed"] = request.seed
    if request.stream:
        told["gen_ai.request.stream"] = True
    if request.answer.get("schema") is not None:
        told["gen_ai.output.type"] = "json"
    return told


def _answer(output: Output) -> dict[str, Json]:
    told = {
        "gen_ai.response.finish_reasons": [output.finish_reason],
        "gen_ai.response.model": output.extra.get("model"),
        "gen_ai.usage.input_tokens": output.prompt_tokens,
        "gen_ai.usage.output_tokens": output.output_tokens,
        "gen_ai.response.time_to_first_chunk": output.first_token_seconds,
        "workbench.cost": output.cost,
    }
    return {name: value for name, value in told.items() if value is not None}


def _content(request: Request, output: Output | None) -> dict[str, str]:
    """What was asked and answered, in the convention's form of messages, as JSON."""
    asked = [{"role": message.role, "parts": _parts(message)} for message in request.messages]
    told = {"gen_ai.input.messages": json.dumps(asked, ensure_ascii=False)}
    if output is not None:
        parts: list[Json] = [{"type": "text", "content": output.text}] if output.text else []
        parts += [_call(call) for call in output.tool_calls]
        answer = {"role": "assistant", "parts": parts, "finish_reason": output.finish_reason}
        told["gen_ai.output.messages"] = json.dumps([answer], ensure_ascii=False)
    return told


def _parts(message: Message) -> list[Json]:
    """A message's texts; an image is told of without its content."""
    return [{"type": p.kind} | ({"content": p.value} if p.kind == "text" else {}) for p in message.parts]


def _call(call: Json) -> Json:
    """A tool call, with or without OpenAI's wrapping, in the convention's form."""
    inner = call.get("function", call)
    return {"type": "tool_call", "id": call.get("id"), "name": inner.get("name"), "arguments": inner.get("arguments")}
