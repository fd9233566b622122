// Selects a worker for each question, as a gateway does before it sends a request: gateway CONFIGURATION QUESTION...
//
//	export CGO_CFLAGS="$(dynamo-llm config --cflags)" CGO_LDFLAGS="$(dynamo-llm config --libs)"
//	go build -o gateway gateway.go
//	./gateway '{"cluster": {"discovery": "etcd"}, "endpoint": "dynamo.backend.generate"}' "What is a KV cache?"
//
// Prints a line for each question, as gateway.c does: the worker, the number of prompt blocks that it has
// cached, and its address. All requests are reserved before the first is released, so that the questions
// spread over the workers:
//
//	request 1: worker 7587895338934311 rank 0 has 0 blocks of 30 tokens, at 127.0.0.1:41235
package main

// #include <dynamo_llm/router.h>
// #include <stdlib.h>
import "C"

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"
)

// checked calls the library and returns the error of that call. The library keeps errors by thread,
// like errno, and a goroutine may change its thread between two calls.
func checked(call func() (ok bool)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() {
		return nil
	}
	status, message := C.dynamo_last_status(), C.GoString(C.dynamo_last_error())
	return fmt.Errorf("%s: %s", C.GoString(C.dynamo_status_name(status)), message)
}

// Router selects workers. All its methods may be called from any goroutine.
type Router struct{ handle *C.dynamo_router_t }

// NewRouter joins the cluster of a configuration in JSON.
func NewRouter(config string) (Router, error) {
	text := C.CString(config)
	defer C.free(unsafe.Pointer(text))
	var r Router
	err := checked(func() bool { r.handle = C.dynamo_router_create(text); return r.handle != nil })
	return r, err
}

// Close leaves the cluster.
func (r Router) Close() { C.dynamo_router_destroy(r.handle) }

// Selection is the worker that a router selected for a request.
type Selection struct {
	Worker                      uint64
	Address                     string
	Rank, OverlapBlocks, Tokens int
}

// Select selects the worker for a question, and reserves the request under its id.
func (r Router) Select(question, requestID string) (Selection, error) {
	body, err := json.Marshal(map[string]any{
		"messages": []map[string]string{{"role": "user", "content": question}}})
	if err != nil {
		return Selection{}, err
	}
	text, id := C.CString(string(body)), C.CString(requestID)
	defer C.free(unsafe.Pointer(text))
	defer C.free(unsafe.Pointer(id))
	// The options contain a pointer to C memory, so they must not lie in Go's.
	options := (*C.dynamo_route_options_t)(C.calloc(1, C.sizeof_dynamo_route_options_t))
	defer C.free(unsafe.Pointer(options))
	options.struct_size = C.sizeof_dynamo_route_options_t
	options.request_id = id
	var selected *C.dynamo_selection_t
	err = checked(func() bool {
		selected = C.dynamo_router_select_body(r.handle, text, options)
		return selected != nil
	})
	if err != nil {
		return Selection{}, err
	}
	defer C.dynamo_free(unsafe.Pointer(selected)) // also frees everything it points to
	return Selection{
		Worker:        uint64(selected.worker_id),
		Address:       C.GoString(selected.address), // "" of NULL
		Rank:          int(selected.data_parallel_rank),
		OverlapBlocks: int(selected.overlap_blocks),
		Tokens:        int(selected.token_count),
	}, nil
}

// Release reports the first token and the end of a request's answer.
func (r Router) Release(requestID string) error {
	id := C.CString(requestID)
	defer C.free(unsafe.Pointer(id))
	return checked(func() bool {
		return C.dynamo_router_prefill_complete(r.handle, id) == C.DYNAMO_OK &&
			C.dynamo_router_free(r.handle, id) == C.DYNAMO_OK
	})
}

func route(config string, questions []string) error {
	router, err := NewRouter(config)
	if err != nil {
		return err
	}
	defer router.Close()
	for number, question := range questions {
		id := strconv.Itoa(number + 1)
		selection, err := router.Select(question, id)
		if err != nil {
			return err
		}
		fmt.Printf("request %s: worker %d rank %d has %d blocks of %d tokens, at %s\n",
			id, selection.Worker, selection.Rank, selection.OverlapBlocks, selection.Tokens, selection.Address)
	}
	// Here a gateway sends the requests, and reports the first token and the end of each answer.
	for number := range questions {
		if err := router.Release(strconv.Itoa(number + 1)); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: gateway CONFIGURATION QUESTION...")
		os.Exit(2)
	}
	if err := route(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}
