from dynamo_llm.errors import NotSupportedError
from dynamo_llm.paths import demo_model_dir


class Parrot:
    kind = "tokens"  # the library's pipeline makes tokens of texts and texts of tokens

    def __init__(self, config):  # dynamo_llm.runtime.engine.EngineConfig
        self.path = config.model or str(demo_model_dir())

    def start(self):  # load; may block
        pass

    def describe(self):  # dynamo_llm.runtime.engine.ModelInfo
        return {"path": self.path, "context_length": 256, "capabilities": ["logprobs"]}

    async def generate(self, request):  # dynamo_llm.runtime.engine.TokenRequest
        if request.sampling.logit_bias:
            raise NotSupportedError('the engine "parrot" does not support "logit_bias" of the request')
        for token in request.token_ids:
            chunk = {"token_ids": [token]}
            if request.logprobs is not None:
                chunk["logprobs"] = [{"logprob": 0.0, "top": []}]
            yield chunk

    def stop(self):  # free
        pass
