from pathlib import Path

import dynamo_llm

here = Path(__file__).parent
# begin
config = {"engine": "shout:Shout", "python": {"path": [str(here)]}, "options": {"suffix": "?"}}
with dynamo_llm.Runtime(config) as runtime:
    print(runtime.complete("who is there").result().text)
# end
