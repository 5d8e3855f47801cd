"""A server on this machine that speaks like OpenAI's, answers from a script and fails on demand.

    from workbench.loopback import Fault, Script, serve

    with serve(Script(answers={"capital of France": "Paris"}, faults=(Fault(share=0.05),))) as server:
        ...                                    # ask server.url with any client
        assert server.count("What is the capital of France?") == 1

or, for another process, `workbench serve-fake --script FILE.yaml`. It knows models, chat completions and
responses (whole and streamed, with tools, schemas and log-probabilities), embeddings, files and batches.
A token is a word. What it answers, how long it takes and which calls fail follow from the script's seed and
the calls' content, not from the order in which they arrive; only what the script ties to an order (the k-th
call, the limits) depends on it. It listens on 127.0.0.1 only.

    script.py     what the server does
    answers.py    what it says: texts, tool calls, log-probabilities, vectors
    instance.py   the smallest instance of a JSON Schema
    shapes.py     the API's objects around it: chat completions, responses, embeddings, errors
    limits.py     requests and tokens a minute, and their headers
    faults.py     answers that are slow, cut, torn or wrong
    batches.py    files and batches
    server.py     the HTTP server, and its books
"""

from workbench.loopback.books import Call
from workbench.loopback.script import Fault, Latency, Limits, Script
from workbench.loopback.server import Server, serve

__all__ = ["Call", "Fault", "Latency", "Limits", "Script", "Server", "serve"]
