import dynamo_llm

# begin
body = {  # as a client sends it
    "model": "gpt-5",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "What is a KV cache?"}]}],
    "max_completion_tokens": 12,
    "service_tier": "auto",
    "store": False,
    "tools": None,
}
with dynamo_llm.Runtime() as runtime:
    print(runtime.request(body).result().text)
    try:
        runtime.request({**body, "web_search_options": {}}).result()
    except dynamo_llm.NotSupportedError as error:
        print(error)
# end
