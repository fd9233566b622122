dynamo-llm pull org/demo
dynamo-llm chat --model org/demo "What is a KV cache?"
