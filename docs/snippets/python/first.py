import dynamo_llm

with dynamo_llm.Runtime() as runtime:
    for response in runtime.chat("What is a KV cache?"):
        print(response.text, end="", flush=True)
    print()
