// Streams an answer, token by token: chat ["question" ["configuration"]]
//
//	export CGO_CFLAGS="$(dynamo-llm config --cflags)" CGO_LDFLAGS="$(dynamo-llm config --libs)"
//	go build -o chat .
//	./chat "What is a KV cache?"
//	./chat "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
//
// Ctrl-C cancels the answer.
package main

// #include <dynamo_llm.h>
// #include <stdlib.h>
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"unsafe"
)

// Status is an error of the library.
type Status struct {
	Code    int32 // one of C.DYNAMO_ERROR_...
	Message string
}

func (s *Status) Error() string { return s.Message }

// checked calls the library and gives the error of that call. The library keeps errors by thread,
// like errno, and a goroutine may change its thread between two calls.
func checked(call func() (ok bool)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() {
		return nil
	}
	return &Status{int32(C.dynamo_last_status()), C.GoString(C.dynamo_last_error())}
}

// Runtime is an engine with a model.
type Runtime struct{ handle *C.dynamo_runtime_t }

// Start makes a runtime of a configuration in JSON.
func Start(config string) (Runtime, error) {
	text := C.CString(config)
	defer C.free(unsafe.Pointer(text))
	var r Runtime
	err := checked(func() bool { r.handle = C.dynamo_runtime_create(text); return r.handle != nil })
	return r, err
}

// Close stops the engine.
func (r Runtime) Close() { C.dynamo_runtime_destroy(r.handle) }

// Chunk is some of an answer. The last one has a Finish or an Err.
type Chunk struct {
	Text, Finish string
	Err          error
}

// Chat asks a question. The channel must be read to its end, or ctx be cancelled and then read.
func (r Runtime) Chat(ctx context.Context, question string) (<-chan Chunk, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	body, err := json.Marshal(map[string]any{"messages": []message{{"user", question}}})
	if err != nil {
		return nil, err
	}
	text := C.CString(string(body))
	defer C.free(unsafe.Pointer(text))
	var request *C.dynamo_request_t
	err = checked(func() bool {
		request = C.dynamo_request_create(text)
		return request != nil && C.dynamo_request_send(r.handle, request) == C.DYNAMO_OK
	})
	if err != nil {
		C.dynamo_request_destroy(request)
		return nil, err
	}
	chunks, ended := make(chan Chunk), make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			C.dynamo_request_cancel(request) // harmless if it was destroyed meanwhile
		case <-ended:
		}
	}()
	go func() {
		defer close(chunks)
		defer close(ended)
		defer C.dynamo_request_destroy(request)
		for {
			var response *C.dynamo_response_t
			status := C.dynamo_request_next(request, -1, &response)
			if status == C.DYNAMO_END {
				return
			} else if status != C.DYNAMO_OK {
				chunks <- Chunk{Err: &Status{int32(status), C.GoString(C.dynamo_request_error(request))}}
				return
			}
			chunk := Chunk{
				Text:   C.GoString(C.dynamo_response_text(response, nil)),
				Finish: C.GoString(C.dynamo_response_finish_reason(response)), // "" of NULL
			}
			C.dynamo_free(unsafe.Pointer(response))
			chunks <- chunk
		}
	}()
	return chunks, nil
}

func chat(ctx context.Context, question, config string) error {
	llm, err := Start(config)
	if err != nil {
		return err
	}
	defer llm.Close()
	chunks, err := llm.Chat(ctx, question)
	if err != nil {
		return err
	}
	var last Chunk
	for last = range chunks {
		fmt.Print(last.Text)
	}
	fmt.Println()
	if last.Err == nil {
		fmt.Printf("(%s)\n", last.Finish)
	}
	return last.Err
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
	defer stop()
	err := chat(ctx, question, config)
	var status *Status
	switch {
	case errors.As(err, &status) && status.Code == C.DYNAMO_ERROR_CANCELLED:
		fmt.Println("(cancelled)")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}
