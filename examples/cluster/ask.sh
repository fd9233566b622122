# Asks the model that the cluster has.
dynamo-llm chat --config '{"engine": "dynamo", "cluster": {"discovery": "file", "path": "/tmp/cluster"}}' "Hello"
