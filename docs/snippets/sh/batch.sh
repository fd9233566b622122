cat > questions.jsonl <<'END'
{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "What is a KV cache?"}], "max_tokens": 40}}
{"custom_id": "b", "method": "POST", "url": "/v1/completions", "body": {"prompt": "A KV cache", "max_tokens": 8}}
END
dynamo-llm batch questions.jsonl answers.jsonl
