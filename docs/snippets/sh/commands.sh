dynamo-llm complete "A KV cache keeps" --max-tokens 8 --temperature 0
dynamo-llm tokenize "KV cache €"
dynamo-llm tokenize --json --no-special "KV cache"
dynamo-llm tokenize --json --no-special "KV cache" | python -c 'import json, sys; print(*json.load(sys.stdin)["ids"])' |
    dynamo-llm tokenize --ids
