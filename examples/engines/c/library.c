/* The engine of engine.c as a shared library, which any program loads by its path.
 *
 *     gcc -shared -fPIC -o libbabble.so library.c engine.c ../babble.c $(dynamo-llm config --cflags --libs)
 *     dynamo-llm chat --engine ./libbabble.so "What is a KV cache?"
 *
 * In a configuration: {"engine": {"library": "./libbabble.so"}}. */
#include "engine.h"

int32_t dynamo_engine_entry(uint32_t host_abi, dynamo_engine_library_t *library) {
    (void)host_abi; /* a program with another ABI refuses the library, because of what follows */
    library->abi_version = DYNAMO_LLM_ABI_VERSION;
    library->version = DYNAMO_LLM_VERSION_STRING;
    library->engine = &engine_of_text;
    return DYNAMO_OK;
}
