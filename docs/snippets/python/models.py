# SPDX-License-Identifier: Apache-2.0
# begin
import dynamo_llm

models = [{"name": "demo"}, {"name": "parrot", "engine": "echo"}]
with dynamo_llm.Runtime(models=models, limits={"max_concurrent": 8}) as runtime:
    for model in runtime.models():
        print(model["id"], model["engine"])
    print(runtime.chat("What is a KV cache?", model="parrot").result().text)
# end
