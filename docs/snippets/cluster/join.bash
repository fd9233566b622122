# A cluster that needs no server: its processes find each other through a folder.
export DYN_FILE_KV=$PWD/cluster DYN_TCP_RPC_HOST=127.0.0.1 DYN_EVENT_PLANE_HOST=127.0.0.1
# A worker: Dynamo's sample, which generates the token ids 1, 2, 3, ... It needs a model's tokenizer.
model=$(python -c 'from dynamo_llm import paths; print(paths.demo_model_dir())')
python -m dynamo.common.backend.sample_main --model-name="$model" --delay=0.001 \
    --discovery-backend=file --request-plane=tcp --event-plane=zmq 2>worker.log &
trap "kill $!" EXIT
# The client, and the beginning of the answer.
g++ -std=c++17 -o chat chat.cpp $(dynamo-llm config --cflags --libs)
./chat "What is a KV cache?" '{"engine": "dynamo", "cluster": {"discovery": "file", "path": "cluster"}}' | sed -n 1p | cut -c 1-12
