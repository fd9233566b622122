package main

// #include <dynamo_llm.h>
// #include <stdlib.h>
import "C"

import (
	"context"
	"encoding/json"
	"io"
	"runtime"
	"unsafe"
)

// Error is an error of the library.
type Error struct {
	Status  int32 // one of C.DYNAMO_ERROR_...
	Message string
}

func (e *Error) Error() string { return e.Message }

// Is makes a cancelled request the same as a cancelled context.
func (e *Error) Is(target error) bool {
	return e.Status == C.DYNAMO_ERROR_CANCELLED && target == context.Canceled
}

// checked calls the library and returns the error of that call. The library keeps errors by thread,
// like errno, and a goroutine may change its thread between two calls.
func checked(call func() (ok bool)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() {
		return nil
	}
	return &Error{int32(C.dynamo_last_status()), C.GoString(C.dynamo_last_error())}
}

// Runtime is an engine with a model.
type Runtime struct{ handle *C.dynamo_runtime_t }

// NewRuntime starts the engine of a configuration in JSON, and loads its model.
func NewRuntime(config string) (Runtime, error) {
	text := C.CString(config)
	defer C.free(unsafe.Pointer(text))
	var r Runtime
	err := checked(func() bool { r.handle = C.dynamo_runtime_create(text); return r.handle != nil })
	return r, err
}

// Close stops the engine.
func (r Runtime) Close() { C.dynamo_runtime_destroy(r.handle) }

// Answer is a request that was sent.
type Answer struct {
	handle *C.dynamo_request_t
	closed chan struct{}
}

// Chat asks a question. The end of ctx cancels the answer.
func (r Runtime) Chat(ctx context.Context, question string) (Answer, error) {
	body, err := json.Marshal(map[string]any{
		"messages": []map[string]string{{"role": "user", "content": question}}})
	if err != nil {
		return Answer{}, err
	}
	text := C.CString(string(body))
	defer C.free(unsafe.Pointer(text))
	a := Answer{closed: make(chan struct{})}
	err = checked(func() bool {
		a.handle = C.dynamo_request_create(text)
		return a.handle != nil && C.dynamo_request_send(r.handle, a.handle) == C.DYNAMO_OK
	})
	if err != nil {
		C.dynamo_request_destroy(a.handle)
		return Answer{}, err
	}
	go func() {
		select {
		case <-ctx.Done():
			C.dynamo_request_cancel(a.handle) // harmless if it was destroyed meanwhile
		case <-a.closed:
		}
	}()
	return a, nil
}

// Chunk is some of an answer; the last one has a Finish.
type Chunk struct{ Text, Finish string }

// Recv waits for more of the answer. It returns io.EOF after the last chunk.
func (a Answer) Recv() (Chunk, error) {
	var response *C.dynamo_response_t
	switch status := C.dynamo_request_next(a.handle, -1, &response); status {
	case C.DYNAMO_OK:
		defer C.dynamo_free(unsafe.Pointer(response))
		return Chunk{
			Text:   C.GoString(C.dynamo_response_text(response, nil)),
			Finish: C.GoString(C.dynamo_response_finish_reason(response)), // "" of NULL
		}, nil
	case C.DYNAMO_END:
		return Chunk{}, io.EOF
	default:
		return Chunk{}, &Error{int32(status), C.GoString(C.dynamo_request_error(a.handle))}
	}
}

// Close cancels what is left of the answer and frees it.
func (a Answer) Close() {
	close(a.closed)
	C.dynamo_request_destroy(a.handle)
}
