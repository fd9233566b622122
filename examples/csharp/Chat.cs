// Streams an answer, token by token: chat ["question" ["configuration"]]
//
//     mcs -out:chat.exe Chat.cs Dynamo.cs
//     export LD_LIBRARY_PATH=$(dynamo-llm config --libdir)
//     mono chat.exe "What is a KV cache?"
//     mono chat.exe "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
//
// Ctrl-C cancels the answer (with mono, if input and output are a terminal).
using System;

static class Program
{
    static int Main(string[] args)
    {
        var question = args.Length > 0 ? args[0] : "What is a KV cache?";
        var config = args.Length > 1 ? args[1] : "{}";
        try
        {
            using (var runtime = new DynamoRuntime(config))
            using (var answer = runtime.Chat(question))
            {
                Console.CancelKeyPress += (sender, press) =>
                {
                    press.Cancel = true; // the program goes on
                    answer.Cancel();
                };
                foreach (var text in answer.Texts())
                    Console.Write(text);
                Console.WriteLine("\n({0})", answer.FinishReason);
            }
            return 0;
        }
        catch (DynamoException error)
        {
            Console.WriteLine();
            if (error.Status == DynamoException.Cancelled)
            {
                Console.WriteLine("(cancelled)");
                return 130;
            }
            Console.Error.WriteLine("chat: " + error.Message);
            return 1;
        }
    }
}
