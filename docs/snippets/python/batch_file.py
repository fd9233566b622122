# SPDX-License-Identifier: Apache-2.0
import json
import tempfile
from pathlib import Path

# begin
import dynamo_llm

folder = Path(tempfile.mkdtemp())
with (folder / "questions.jsonl").open("w") as file:
    for number in range(3):
        line = {
            "custom_id": f"question-{number}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"prompt": f"number {number}"},
        }
        file.write(json.dumps(line) + "\n")

batch = dynamo_llm.Batch(folder / "questions.jsonl", folder / "answers.jsonl")
with batch, dynamo_llm.Runtime(engine="echo") as runtime:  # or model="models/qwen"
    report = batch.run(runtime, max_concurrency=16)
print(report.done, "done,", report.failed, "failed")

results = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
for result in sorted(results, key=lambda result: result["custom_id"]):
    print(result["custom_id"], result["response"]["body"]["choices"][0]["text"])
# end
