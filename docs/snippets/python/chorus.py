"""An engine that answers all its requests a word at a time, step by step."""

import threading
from collections import deque

from dynamo_llm.runtime.sink import push_many


class Chorus:
    kind = "steps"

    def __init__(self, config):
        self.changed = threading.Condition()
        self.rows = {}  # the words that are left, by sink
        self.is_over = False

    def start(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def add(self, request, sink):
        with self.changed:
            self.rows[sink] = deque(enumerate(request.body["prompt"].split()))
            self.changed.notify()

    def cancel(self, sink):
        with self.changed:
            self.rows.pop(sink, None)
        sink.finish()

    def run(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.rows or self.is_over)
                if self.is_over:
                    return
                for sink in [sink for sink, words in self.rows.items() if not words]:
                    del self.rows[sink]
                    sink.finish("stop")
                rows = list(self.rows.items())
            full = push_many(
                [sink for sink, _ in rows],
                [words[0][0] for _, words in rows],
                [words[0][1].upper() + "! " for _, words in rows],
            )
            for number, (_, words) in enumerate(rows):
                if number not in full:
                    words.popleft()

    def stop(self):
        with self.changed:
            self.is_over = True
            self.changed.notify()
        self.thread.join()
