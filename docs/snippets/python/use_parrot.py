from pathlib import Path

import dynamo_llm

here = Path(__file__).parent
# begin
config = {"engine": "parrot:Parrot", "python": {"path": [str(here)]}}
with dynamo_llm.Runtime(config) as runtime:
    answer = runtime.complete("Pretty Polly wants a cracker", stop=" a").result()
    print(answer.text, answer.finish_reason, answer.usage.completion_tokens > 0)
    try:
        runtime.complete("Polly", max_tokens=300).result()
    except dynamo_llm.ContextLengthError as error:
        print(error)
    try:
        runtime.chat("Polly", response_format={"type": "json_object"}).result()
    except dynamo_llm.NotSupportedError as error:
        print(error)
# end
