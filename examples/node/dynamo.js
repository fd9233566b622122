// The part of dynamo_llm.h that a chat needs, through the FFI library koffi.
import koffi from 'koffi';
import { promisify } from 'node:util';

const library = koffi.load('libdynamo_llm_capi.so.1');
const c = {};
for (const prototype of [
    'const char *dynamo_last_error(void)',
    'int32_t dynamo_last_status(void)',
    'void dynamo_free(void *pointer)',
    'void *dynamo_runtime_create(const char *config)',
    'void dynamo_runtime_destroy(void *runtime)',
    'void *dynamo_request_create(const char *body)',
    'int32_t dynamo_request_send(void *runtime, void *request)',
    'int32_t dynamo_request_next(void *request, int64_t timeout_ms, _Out_ void **response)',
    'int32_t dynamo_request_cancel(void *request)',
    'const char *dynamo_request_error(void *request)',
    'void dynamo_request_destroy(void *request)',
    'const char *dynamo_response_text(const void *response, size_t *length)',
    'const char *dynamo_response_finish_reason(const void *response)',
]) {
    c[/dynamo_(\w+)/.exec(prototype)[1]] = library.func(prototype);
}
// Waits in one of koffi's threads, so that the event loop continues. The result is the status, never
// dynamo_last_status(), which would be another thread's. One thread waits for each request: a program
// with many uses dynamo_request_set_callback().
const next = promisify(c.request_next.async);

const OK = 0;
const END = 1;
export const CANCELLED = -12;

export class DynamoError extends Error {
    constructor(status = c.last_status(), message = c.last_error()) {
        super(message);
        this.status = status;
    }
}

function check(isFine) {
    if (!isFine) throw new DynamoError();
}

export class Runtime {
    #handle;

    // Starts the engine of a configuration in JSON. The event loop waits for the model.
    constructor(config = '{}') {
        this.#handle = c.runtime_create(config);
        check(this.#handle);
    }

    // Asks a question; yields {text, finishReason}. An AbortSignal cancels the answer.
    async *chat(question, signal) {
        const body = JSON.stringify({ messages: [{ role: 'user', content: question }] });
        const request = c.request_create(body);
        check(request);
        const cancel = () => c.request_cancel(request);
        signal?.addEventListener('abort', cancel);
        try {
            check(c.request_send(this.#handle, request) === OK);
            for (const out = [null]; ; ) {
                const status = await next(request, -1, out);
                if (status === END) return;
                if (status !== OK) throw new DynamoError(status, c.request_error(request));
                const chunk = {
                    text: c.response_text(out[0], null),
                    finishReason: c.response_finish_reason(out[0]),
                };
                c.free(out[0]);
                yield chunk;
            }
        } finally {
            signal?.removeEventListener('abort', cancel);
            c.request_destroy(request);
        }
    }

    // Stops the engine.
    close() {
        c.runtime_destroy(this.#handle);
    }
}
