"""An engine that says how far its start has come."""

import time


class Filling:
    def __init__(self, config):
        self.config = config

    # begin
    def start(self):
        parts = 4
        for done in range(parts):
            # It raises dynamo_llm.CancelledError if nobody wants the engine any more.
            self.config.progress("weights", fraction=done / parts)
            self.load(done)
        self.config.progress("weights", fraction=1)

    # end

    def load(self, part):
        time.sleep(0.02)

    def generate(self, request):
        yield {"text": "filled"}

    def stop(self): ...
