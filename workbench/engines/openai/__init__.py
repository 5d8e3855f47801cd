"""Any address that speaks OpenAI's API, through OpenAI's own client.

    engine: openai
    model: our-model
    base_url: http://127.0.0.1:8000/v1    # default: OPENAI_BASE_URL, else OpenAI itself
    api_key_env: HOUSE_KEY                # default: OPENAI_API_KEY; with a base_url of its own: no key is sent
    api: responses                        # default: chat
    api_version: 2024-10-21               # Azure
    options:
      server: vllm                        # who answers, where the address does not tell: see `hosts`
      seed: true                          # send seeds; default: as the host takes them
      stream: true                        # stream every call, to measure the time to the first token
    limits: {concurrency: 8, requests_per_minute: 500, timeout: 60, retries: 5}

Without `concurrency` the limit is learnt (`limiter`). `timeout` is seconds without a byte; a call as a whole,
and its waiting for a turn after refusals, may take ten times as long. `retries` counts tries after faults.

    hosts      what known hosts take              chat, responses   the two forms of the API
    keys       addresses and keys                 wire              what the forms share
    limiter    how fast to ask                    client            one call
    faults     what went wrong                    session           many calls, in an event loop
    batch      many requests in one file, answered later
    hosted     what engines of other forms (`bedrock`) share with this one
"""

from workbench.engines.openai.engine import OpenAIEngine

__all__ = ["OpenAIEngine"]
