# SPDX-License-Identifier: Apache-2.0
"""Asks about pictures: images.py FOLDER_OF_A_MODEL PNG_FILE..."""

# begin
import base64
import sys
from pathlib import Path

import dynamo_llm

model, *files = sys.argv[1:]

with dynamo_llm.Runtime(model=model) as runtime:
    for file in map(Path, files):
        data = base64.b64encode(file.read_bytes()).decode()
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        question = {"type": "text", "text": "What is in this picture?"}
        answer = runtime.chat(
            [{"role": "user", "content": [image, question]}], max_tokens=8, logprobs=True
        ).result()
        print(f"{file.name}: {answer.usage.prompt_tokens} tokens, {answer.logprobs[0].logprob:.1f}")
# end
