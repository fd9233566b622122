export MODEL_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe())')
dynamo-llm serve --http 127.0.0.1:18017 --api-key-env MODEL_KEY &
server=$!
curl -s --retry 60 --retry-connrefused --retry-delay 1 http://127.0.0.1:18017/health

curl -sSN http://127.0.0.1:18017/v1/chat/completions -H "Content-Type: application/json" \
    -H "Authorization: Bearer $MODEL_KEY" \
    -d '{"messages": [{"role": "user", "content": "What is a KV cache?"}], "max_tokens": 3, "stream": true}'
curl -sS http://127.0.0.1:18017/metrics -H "Authorization: Bearer $MODEL_KEY" | grep http_answers
kill $server
wait $server
