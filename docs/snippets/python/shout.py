class Shout:
    def __init__(self, config):  # dynamo_llm.runtime.engine.EngineConfig
        self.suffix = config.options.get("suffix", "!")

    def start(self):  # load; may block, or be a coroutine
        pass

    async def generate(self, request):  # EngineRequest; request.body is the OpenAI body
        for word in request.body["prompt"].split():
            yield {"text": word.upper() + self.suffix + " "}

    def stop(self):
        pass
