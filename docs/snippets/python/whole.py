import dynamo_llm

with dynamo_llm.Runtime(engine="echo", options={"repeat": 2}) as runtime:
    # begin
    answer = runtime.chat(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two three "}],
        max_tokens=4,
    ).result()
    print(answer.text, answer.finish_reason, answer.usage.completion_tokens)
    # end
