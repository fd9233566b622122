from pathlib import Path

import dynamo_llm

here = Path(__file__).parent


# begin
def show(progress):
    if progress.fraction == 1:
        print(f"{progress.phase}: done")


config = {"engine": "filling:Filling", "python": {"path": [str(here)]}}
with dynamo_llm.Runtime(config, progress=show) as runtime:
    print(runtime.complete("x").result().text)
# end
