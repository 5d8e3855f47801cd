#!/usr/bin/env bash
# The whole way, on a real model: examples, training, and the tuned model against its base on the cases held out.
# Usage: examples/finetune/run.sh FOLDER [options of train.py]; FOLDER becomes a project of its own.
set -euo pipefail
home=$(cd "$(dirname "$0")/../.." && pwd)
folder=$1
shift
mkdir -p "$folder/prompts/sentiment" "$folder/evals" "$folder/data"
cp "$home/prompts/sentiment/zero-shot.prompty" "$folder/prompts/sentiment/"
cp "$home/evals/data/vader_sentiment.jsonl" "$folder/data/cases.jsonl"
cd "$folder"
cat >evals/labels.yaml <<'SUITE'
name: labels                # the expected answers are learnt, so nothing need be asked for them
prompts: [sentiment/zero-shot]
models: [echo]
cases: {file: data/cases.jsonl, expected: label}
scorers: [exact]
SUITE
workbench run labels --quiet
workbench export training latest --answers expected --out data/train.jsonl
python "$home/examples/finetune/train.py" data/train.jsonl tuned.gguf "$@"
cat >workbench.yaml <<'PROJECT'
models:
  tuned: {engine: llama, path: tuned.gguf, chat_template: tuned.jinja, trained_on: data/train.cases.json}
PROJECT
cat >evals/tuned.yaml <<'SUITE'
name: tuned
stage: fine-tune
prompts: [sentiment/zero-shot]
models: [smollm2+f32, tuned]
params: {temperature: 0, max_tokens: 8}
cases: {file: data/cases.jsonl, expected: label, held_out: data/train.cases.json}
scorers: [{choice: {choices: [positive, negative]}}]
SUITE
workbench run tuned
