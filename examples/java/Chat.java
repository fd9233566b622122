import java.util.concurrent.CountDownLatch;

/**
 * Streams an answer, token by token: Chat ["question" ["configuration"]]
 *
 *     javac -cp /usr/share/java/jna.jar Chat.java Dynamo.java
 *     export LD_LIBRARY_PATH=$(dynamo-llm config --libdir)
 *     java -cp /usr/share/java/jna.jar:. Chat "What is a KV cache?"
 *     java -cp /usr/share/java/jna.jar:. Chat "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
 *
 * Ctrl-C cancels the answer.
 */
final class Chat {
    public static void main(String[] args) {
        String question = args.length > 0 ? args[0] : "What is a KV cache?";
        String config = args.length > 1 ? args[1] : "{}";
        int status = 0;
        CountDownLatch ended = new CountDownLatch(1);
        try (Dynamo.Runtime runtime = new Dynamo.Runtime(config);
                Dynamo.Answer answer = runtime.chat(question)) {
            // Ctrl-C runs this and, once it returns, ends Java with 130.
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                answer.cancel();
                try {
                    ended.await();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            }));
            String reason = answer.receive(text -> {
                System.out.print(text);
                System.out.flush();
            });
            System.out.println("\n(" + reason + ")");
        } catch (Dynamo.Failure failure) {
            if (failure.status == Dynamo.CANCELLED) {
                System.out.println("\n(cancelled)");
                status = 130;
            } else {
                System.out.flush();
                System.err.println("chat: " + failure.getMessage());
                status = 1;
            }
        }
        ended.countDown();
        System.exit(status);
    }
}
