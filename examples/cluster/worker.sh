# Builds the worker and serves it; the folder /tmp/cluster is the whole cluster.
gcc -o worker worker.c ../engines/c/engine.c ../engines/babble.c -pthread \
    $(dynamo-llm config --cflags --libs)
model=$(python -c 'from dynamo_llm import paths; print(paths.demo_model_dir())')
exec ./worker "$model" '{"discovery": "file", "path": "/tmp/cluster"}'
