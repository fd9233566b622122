"""Describes pictures: use_gaze.py FOLDER_OF_A_MODEL PNG_FILE..."""

import base64
import sys
from pathlib import Path

import dynamo_llm

here = Path(__file__).parent
model, *files = sys.argv[1:]
# begin
with dynamo_llm.Runtime(engine="gaze:Gaze", model=model, python={"path": [str(here)]}) as runtime:
    content = [{"type": "text", "text": "What is in these pictures?"}]
    for file in map(Path, files):
        data = base64.b64encode(file.read_bytes()).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    answer = runtime.chat([{"role": "user", "content": content}]).result()
    print(answer.text, answer.usage.prompt_tokens)
# end
