from pathlib import Path

import dynamo_llm

here = Path(__file__).parent
# begin
with dynamo_llm.Runtime({"engine": "spell:Spell", "python": {"path": [str(here)]}}) as runtime:
    print(runtime.complete("abc", spell_with=" ").result().text)
    try:
        runtime.complete("abc", spel_with=" ").result()
    except dynamo_llm.InvalidRequestError as error:
        print(error)
# end
