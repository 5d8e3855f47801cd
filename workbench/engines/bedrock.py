"""Models of Amazon Bedrock by its Converse API (`converse`), which all its chat models speak, Claude among them.

    engine: bedrock
    model: us.anthropic.claude-sonnet-4-20250514-v1:0   # a model or an inference profile
    api_key_env: AWS_BEARER_TOKEN_BEDROCK               # the default: a Bedrock API key
    options:
      region: us-east-2                                 # default: AWS_REGION, else us-east-1
      sign: true                                        # AWS credentials in place of a key
      stream: true                                      # stream every call, to measure the time to the first token
    limits: {concurrency: 8, requests_per_minute: 500, timeout: 60, retries: 5}

Asked as OpenAI's API is: the same client, limits that are learnt, retries and redaction (`engines.openai`). Streams
and signed calls (Signature Version 4) need botocore, `pip install 'prompt-workbench[bedrock]'`. Bedrock's address that
speaks OpenAI's protocol is another way to the models that it has (`engine: openai` with that `base_url`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from workbench.engines.base import Capabilities
from workbench.engines.converse import PARAMS, Converse, streams_here
from workbench.engines.openai.client import Place
from workbench.engines.openai.hosted import HostedEngine, checked_limits
from workbench.engines.openai.hosts import Host
from workbench.engines.openai.keys import Key
from workbench.engines.openai.session import Plan
from workbench.engines.openai.wire import Form
from workbench.errors import ModelError, suggest
from workbench.records import Json, Model, content_id

_SETTINGS = ("model", "region", "api_key_env", "base_url", "sign", "stream")
_HOST = Host(seeds=False, logprobs=0)
_EXTRA = "botocore, which is not installed: pip install 'prompt-workbench[bedrock]'"
_TOKEN_HEADER = "X-Amz-Security-Token"  # noqa: S105 - a header's name


class BedrockEngine(HostedEngine):
    """Raises ModelError for wrong settings, and where there is no key or there are no credentials."""

    _params = frozenset((*PARAMS, "tool_choice"))
    capabilities = Capabilities(schema=True, tools=True, images=True, params=_params)

    def __init__(self, model: Model) -> None:
        limits = checked_limits(model, _SETTINGS)
        settings, name = model.settings, str(model.settings["model"])
        if settings.get("stream") and not streams_here():
            raise ModelError(f"model '{model.alias}': a stream of Bedrock needs {_EXTRA}")
        place = _place(model, cast(Form, Converse(name)), float(limits["timeout"]))
        plan = Plan(place, name, _HOST, model.price, int(limits["retries"]), bool(settings.get("stream")))
        super().__init__(plan, limits)

    @property
    def identity(self) -> str:
        return content_id("bedrock", [self.address, self.name])

    def check_params(self, params: Mapping[str, Json]) -> None:
        for name in params:
            if name not in self._params:
                raise ModelError(f"Bedrock's Converse API knows no parameter '{name}'{suggest(name, self._params)}")


def _place(model: Model, form: Form, timeout: float) -> Place:
    """Where it is asked, with what opens it."""
    settings, who = model.settings, f"model '{model.alias}'"
    region = str(settings.get("region") or os.environ.get("AWS_REGION") or "us-east-1")
    if not re.fullmatch(r"[a-z0-9-]+", region):
        raise ModelError(f"{who}: region {region!r} is none, such as us-east-1")
    address = str(settings.get("base_url") or f"https://bedrock-runtime.{region}.amazonaws.com").rstrip("/")
    if not re.fullmatch(r"https://[^@?]+|http://(127\.0\.0\.1|localhost)(:\d+)?(/[^@?]*)?", address):
        raise ModelError(f"{who}: base_url has to begin with https://, without a password or a query")
    if settings.get("sign"):
        if "api_key_env" in settings:
            raise ModelError(f"{who}: give api_key_env or `sign`, not both")
        sign, token = _signer(who, region)
        return Place(address, Key(token, "the AWS credentials"), form, timeout, _TOKEN_HEADER, sign=sign)
    variable = str(settings.get("api_key_env") or "AWS_BEARER_TOKEN_BEDROCK")
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ModelError(
            f"{who} needs a key of Amazon Bedrock: set the environment variable {variable}, or options: {{sign: true}} "
            "to use your AWS credentials"
        )
    return Place(address, Key(key, variable), form, timeout)


def _signer(who: str, region: str) -> tuple[Callable[[str, bytes], Mapping[str, str]], str]:
    """Signs calls with the credentials that AWS's own tools would take, renewed as these say; and their session token,
    which no message may show. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html"""
    try:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError as error:
        raise ModelError(f"{who}: `sign` needs {_EXTRA}") from error
    try:
        found: Any = Session().get_credentials()
    except BotoCoreError as error:
        raise ModelError(f"{who}: the AWS credentials can't be read: {error}") from error
    if found is None:
        raise ModelError(f"{who}: there are no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret")

    def sign(url: str, body: bytes) -> Mapping[str, str]:
        request = AWSRequest("POST", url, {"Content-Type": "application/json"}, body)
        SigV4Auth(found.get_frozen_credentials(), "bedrock", region).add_auth(request)
        return dict(request.headers.items())

    return sign, str(found.get_frozen_credentials().token or "")
