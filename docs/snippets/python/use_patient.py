from pathlib import Path

import dynamo_llm

here = Path(__file__).parent
# begin
config = {"engine": "patient:Patient", "python": {"path": [str(here)]}, "options": {"limit": 3}}
with dynamo_llm.Runtime(config) as runtime:
    print(runtime.complete("all good things").result().text)
    try:
        runtime.complete("all good things and more").result()
    except dynamo_llm.OverloadedError as error:
        print(error)
        print("File" in error.details["python"]["traceback"])
# end
