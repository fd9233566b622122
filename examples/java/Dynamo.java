import com.sun.jna.Library;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.PointerByReference;
import java.util.Map;
import java.util.function.Consumer;

/** A chat through dynamo_llm.h, with JNA. */
final class Dynamo {
    /** The part of the header that a chat needs. */
    private interface C extends Library {
        C library = Native.load("libdynamo_llm_capi.so.1", C.class, Map.of(OPTION_STRING_ENCODING, "UTF-8"));

        int dynamo_last_status();
        String dynamo_last_error();
        void dynamo_free(Pointer pointer);
        Pointer dynamo_runtime_create(String config);
        void dynamo_runtime_destroy(Pointer runtime);
        Pointer dynamo_request_create(String body);
        int dynamo_request_send(Pointer runtime, Pointer request);
        int dynamo_request_next(Pointer request, long timeoutMs, PointerByReference response);
        int dynamo_request_cancel(Pointer request);
        String dynamo_request_error(Pointer request);
        void dynamo_request_destroy(Pointer request);
        String dynamo_response_text(Pointer response, Pointer length);
        String dynamo_response_finish_reason(Pointer response);
    }

    private static final C c = C.library;
    static final int OK = 0;
    static final int END = 1;
    static final int CANCELLED = -12;

    /** An error of the library. */
    static final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1;
        final int status;

        Failure(int status, String message) {
            super(message);
            this.status = status;
        }

        /** Of this thread's latest call. */
        static Failure last() {
            return new Failure(c.dynamo_last_status(), c.dynamo_last_error());
        }
    }

    /** An engine with a model. */
    static final class Runtime implements AutoCloseable {
        private final Pointer handle;

        /** Starts the engine of a configuration in JSON, and loads its model. */
        Runtime(String config) {
            handle = c.dynamo_runtime_create(config);
            if (handle == null) {
                throw Failure.last();
            }
        }

        /** Asks a question. */
        Answer chat(String question) {
            String body = "{\"messages\": [{\"role\": \"user\", \"content\": " + quoted(question) + "}]}";
            Answer answer = new Answer(c.dynamo_request_create(body));
            if (answer.handle == null || c.dynamo_request_send(handle, answer.handle) != OK) {
                Failure failure = Failure.last();
                answer.close();
                throw failure;
            }
            return answer;
        }

        /** Stops the engine. */
        @Override
        public void close() {
            c.dynamo_runtime_destroy(handle);
        }
    }

    /** A request that was sent. Any thread may cancel it. */
    static final class Answer implements AutoCloseable {
        private final Pointer handle;

        private Answer(Pointer handle) {
            this.handle = handle;
        }

        /** Passes texts on as they come; returns the reason why the answer ended. */
        String receive(Consumer<String> receiver) {
            PointerByReference out = new PointerByReference();
            String reason = null;
            int status;
            while ((status = c.dynamo_request_next(handle, -1, out)) == OK) {
                String text = c.dynamo_response_text(out.getValue(), null);
                reason = c.dynamo_response_finish_reason(out.getValue());
                c.dynamo_free(out.getValue());
                receiver.accept(text);
            }
            if (status != END) {
                throw new Failure(status, c.dynamo_request_error(handle));
            }
            return reason;
        }

        /** Ends it with the status CANCELLED; harmless after its end. */
        void cancel() {
            c.dynamo_request_cancel(handle);
        }

        @Override
        public void close() {
            c.dynamo_request_destroy(handle);
        }
    }

    /** A string in JSON. */
    private static String quoted(String string) {
        StringBuilder json = new StringBuilder("\"");
        for (char character : string.toCharArray()) {
            if (character < 0x20 || character == '"' || character == '\\') {
                json.append(String.format("\\u%04x", (int) character));
            } else {
                json.append(character);
            }
        }
        return json.append('"').toString();
    }

    private Dynamo() {}
}
