import json
import subprocess
import sys

import openai

# begin
command = [sys.executable, "-m", "dynamo_llm", "serve", "--http", "127.0.0.1:0", "--json"]
with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
    try:
        url = json.loads(server.stdout.readline())["url"]  # printed when the server is ready
        client = openai.OpenAI(base_url=url, api_key="none")
        stream = client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "What is a KV cache?"}], stream=True
        )
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()
        try:
            client.completions.create(model="demo", prompt="A KV cache", max_tokens=5000)
        except openai.BadRequestError as error:
            print(error.code)
    finally:
        server.terminate()
        print(server.stdout.read().decode(), end="")
# end
