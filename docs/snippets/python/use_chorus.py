from pathlib import Path

import dynamo_llm

here = Path(__file__).parent
# begin
config = {"engine": "chorus:Chorus", "python": {"path": [str(here)]}}
with dynamo_llm.Runtime(config) as runtime:
    requests = [runtime.complete(f"we are {n}") for n in ("one", "two", "many")]
    for request in requests:
        print(request.result().text)
# end
