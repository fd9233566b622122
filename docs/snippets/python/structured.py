# SPDX-License-Identifier: Apache-2.0
# begin
import json

import dynamo_llm

schema = {
    "type": "object",
    "properties": {
        "phase": {"enum": ["first", "second"]},
        "limited_by": {"enum": ["compute", "memory"]},
    },
    "required": ["phase", "limited_by"],
    "additionalProperties": False,
}
with dynamo_llm.Runtime() as runtime:
    answer = runtime.chat(
        "What is prefill?",
        response_format={"type": "json_schema", "json_schema": {"name": "phase", "schema": schema}},
    ).result()
    print(json.loads(answer.text)["limited_by"])
    print(runtime.chat("What is prefill?", guided_choice=["a cache", "a phase"]).result().text)
    print(runtime.chat("What is prefill?", guided_regex=r"Prefill is the (first|second) phase").result().text)
# end
