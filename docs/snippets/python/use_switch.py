import asyncio
from pathlib import Path

import dynamo_llm

here = Path(__file__).parent
config = {"engine": "switch:Switch", "name": "base", "python": {"path": [str(here)]}}
# begin
with dynamo_llm.Runtime(config) as runtime:
    print(runtime.models()[0]["calls"])
    runtime.call("load_adapter", name="loud", style="{}!", timeout=30)
    print(runtime.complete("hello", model="loud").result().text)
    print(asyncio.run(runtime.call_async("unload_adapter", name="loud")))
    try:
        runtime.call("sleep")
    except dynamo_llm.NotSupportedError as error:
        print(error.message)
# end
