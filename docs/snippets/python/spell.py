class Spell:
    def __init__(self, config):  # dynamo_llm.runtime.engine.EngineConfig
        pass

    def start(self):
        pass

    def describe(self):
        return {"request_keys": ["spell_with"]}

    def generate(self, request):  # EngineRequest
        between = request.body.get("spell_with", "-")
        for letter in request.body["prompt"]:
            yield {"text": letter + between}

    def stop(self):
        pass
