import time
from concurrent.futures import ThreadPoolExecutor

from dynamo_llm.errors import OverloadedError


class Patient:
    max_threads = 4  # plain generators that run at once; more requests wait

    def __init__(self, config):
        self.limit = config.options.get("limit", 100)

    def start(self):
        pass

    def generate(self, request):  # no "async": it runs in a thread of its own, and may block
        words = request.body["prompt"].split()
        if len(words) > self.limit:
            raise OverloadedError(f"{len(words)} words are too many; at most {self.limit}")
        with ThreadPoolExecutor(1) as pool:
            for word in words:
                work = pool.submit(self.think, word)
                while not work.done():
                    if request.is_cancelled():  # the caller no longer needs the answer
                        return
                    time.sleep(0.001)
                yield {"text": work.result()}
        yield {
            "finish_reason": "stop",
            "usage": {"prompt_tokens": len(words), "completion_tokens": len(words)},
        }

    def think(self, word):
        return word.title() + " "

    def stop(self):
        pass
