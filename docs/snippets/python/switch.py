class Switch:
    """Repeats the prompt in the style of an adapter. Adapters can be loaded while it runs."""

    def __init__(self, config):
        self.adapters = {"plain": "{}"}
        # The control calls, by name; their parameters are the arguments of the call.
        self.calls = {"load_adapter": self.load_adapter, "unload_adapter": self.unload_adapter}

    def start(self):
        pass

    def describe(self):
        return {"adapters": list(self.adapters)}

    def load_adapter(self, name: str, style: str):  # runs in a thread, and may block
        self.adapters[name] = style  # describe() is called again after each call

    async def unload_adapter(self, name: str):  # runs on the event loop
        del self.adapters[name]
        return {"left": list(self.adapters)}

    async def generate(self, request):
        style = self.adapters[request.body.get("model", "plain")]
        yield {"text": style.format(request.body["prompt"])}

    def stop(self):
        pass
