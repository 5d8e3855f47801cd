"""The questions of hosted.py as a task of Inspect AI, run by a Python that has it: `PYTHON _inspect_task.py JSON`.

Prints seconds and CPU seconds of the evaluation, its log on disk included, as JSON.
"""

# mypy: ignore-errors
import json
import resource
import sys
import time

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(told: dict) -> None:
    samples = [Sample(input=told["question"].format(number), target="this") for number in range(told["calls"])]
    task = Task(dataset=MemoryDataset(samples), scorer=includes())
    config = GenerateConfig(max_connections=told["at_once"], temperature=0.5, max_tokens=8)
    model = get_model("openai/m", base_url=told["url"], config=config)
    started, cpu = time.perf_counter(), _cpu()
    [log] = evaluate(
        task, model=model, log_dir=told["logs"], display="none", max_samples=told["at_once"], log_model_api=False
    )
    taken = {"seconds": time.perf_counter() - started, "cpu": _cpu() - cpu}
    assert log.status == "success" and len(log.samples) == told["calls"], log.error
    print(json.dumps(taken))


main(json.loads(sys.argv[1]))
