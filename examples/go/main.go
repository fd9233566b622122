// Streams an answer, token by token: chat ["question" ["configuration"]]
//
//	export CGO_CFLAGS="$(dynamo-llm config --cflags)" CGO_LDFLAGS="$(dynamo-llm config --libs)"
//	go build -o chat .
//	./chat "What is a KV cache?"
//	./chat "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
//
// Ctrl-C cancels the answer, a second Ctrl-C ends the program at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func chat(ctx context.Context, question, config string) error {
	runtime, err := NewRuntime(config)
	if err != nil {
		return err
	}
	defer runtime.Close()
	answer, err := runtime.Chat(ctx, question)
	if err != nil {
		return err
	}
	defer answer.Close()
	for finish := ""; ; {
		chunk, err := answer.Recv()
		if err == io.EOF {
			fmt.Printf("\n(%s)\n", finish)
			return nil
		} else if err != nil {
			fmt.Println()
			return err
		}
		fmt.Print(chunk.Text)
		finish = chunk.Finish
	}
}

func main() {
	question, config := "What is a KV cache?", "{}"
	if len(os.Args) > 1 {
		question = os.Args[1]
	}
	if len(os.Args) > 2 {
		config = os.Args[2]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	go func() { <-ctx.Done(); stop() }()
	err := chat(ctx, question, config)
	if errors.Is(err, context.Canceled) {
		fmt.Println("(cancelled)")
		os.Exit(130)
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}
