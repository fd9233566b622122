// SPDX-License-Identifier: Apache-2.0
#include "python/text_stages.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/json.hpp"
#include "python/api.hpp"
#include "python/bindings.hpp"
#include "python/chunk.hpp"
#include "python/detokenizers.hpp"
#include "python/held.hpp"
#include "tokens/choice.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace dynamo::python {
namespace {

// Of the library; set before the first engine in Python starts.
constinit std::atomic<decltype(dynamo_bridge_options::set_text_stage)> set_text_stage{nullptr};
constinit std::atomic<decltype(dynamo_bridge_options::forward)> forward_stream{nullptr};

constinit std::atomic<std::uint64_t> foreign_choices_created{0};

// Reads token IDs from a sequence of integers. Throws the exception that Python raises.
std::vector<std::uint32_t> ids_of(nb::handle sequence) {
    const nb::object items =
        nb::steal(PySequence_Fast(sequence.ptr(), "token ids must be a sequence"));
    if (!items.is_valid()) {
        nb::raise_python_error();
    }
    const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr()));
    std::vector<std::uint32_t> ids(count);
    for (std::size_t i = 0; i < count; ++i) {
        if (!read_uint32(PySequence_Fast_ITEMS(items.ptr())[i], ids[i])) {
            nb::raise_python_error();
        }
    }
    return ids;
}

nb::object loads(const std::string &json) {
    return nb::module_::import_("json").attr("loads")(nb::str(json.data(), json.size()));
}

std::string dumps(nb::handle value) {
    return nb::cast<std::string>(nb::module_::import_("json").attr("dumps")(value));
}

tokens::LogprobForm form_of(const std::string &name) {
    using Form = tokens::LogprobForm;
    return name == "chat"             ? Form::chat
           : name == "completion"     ? Form::completion
           : name == "completion_top" ? Form::completion_top
           : name == "raw"            ? Form::raw
           : name.empty() ? Form::none
                          : throw std::invalid_argument("there is no form of log-probs " + name);
}

struct ReleaseGil {
    void operator()(const PyGILState_STATE *gil) const noexcept { PyGILState_Release(*gil); }
};

// A vocabulary that Python holds. The pointer itself is held by streams, whose threads must not need the GIL.
struct SharedVocabulary {
    std::shared_ptr<const tokens::Vocabulary> vocabulary;

    static void create(SharedVocabulary *place, std::vector<std::optional<std::string>> tokens,
                       const std::vector<std::uint32_t> &special_ids, const std::string &decoder,
                       nb::object decode) {
        // Any thread may decode, and may release the vocabulary.
        const std::shared_ptr<PyObject> function(decode.release().ptr(), [](PyObject *object) {
            if (Py_IsInitialized() == 0) {
                return;  // the process is exiting
            }
            const PyGILState_STATE gil = without_thread_exit([] { return PyGILState_Ensure(); });
            Py_DECREF(object);
            PyGILState_Release(gil);
        });
        const auto call = [function](const json::Json &decoders,
                                     const std::vector<std::string> &some) {
            const PyGILState_STATE gil = without_thread_exit([] { return PyGILState_Ensure(); });
            const auto release = std::unique_ptr<const PyGILState_STATE, ReleaseGil>(&gil);
            return nb::cast<std::string>(nb::handle(function.get())(json::dump(decoders), some));
        };
        try {
            new (place) SharedVocabulary{std::make_shared<const tokens::Vocabulary>(
                tokens, special_ids, json::parse(decoder, "decoder"), call)};
        } catch (const json::Json::exception &wrong) {  // a key of the decoder is missing
            throw std::invalid_argument(wrong.what());
        }
    }

    std::string decode(nb::handle ids, bool skips_special_tokens) const {
        std::string text;
        tokens::Detokenizer whole(vocabulary, {}, skips_special_tokens);
        whole.feed(ids_of(ids), text);
        whole.flush(text);
        return text;
    }
};

class PythonDetokenizer {
  public:
    PythonDetokenizer(const SharedVocabulary &vocabulary, nb::handle prompt, bool skips)
        : detokenizer_(vocabulary.vocabulary, ids_of(prompt), skips) {}

    std::string feed(nb::handle ids) {
        std::string text;
        detokenizer_.feed(ids_of(ids), text);
        return text;
    }
    std::string flush() {
        std::string text;
        detokenizer_.flush(text);
        return text;
    }

  private:
    tokens::Detokenizer detokenizer_;
};

std::string feed_stops(tokens::StopStrings &stops, const std::string &text) {
    std::string shown;
    stops.feed(text, shown);
    return shown;
}

std::string flush_stops(tokens::StopStrings &stops) {
    std::string shown;
    stops.flush(shown);
    return shown;
}

class PythonLogprobs {
  public:
    PythonLogprobs(const std::string &form, const SharedVocabulary &vocabulary, nb::handle prompt,
                   bool skips)
        : logprobs_(form_of(form), vocabulary.vocabulary, ids_of(prompt), skips) {}

    nb::object of(nb::handle ids, nb::handle logprobs) {
        try {
            return loads(json::dump(
                logprobs_.of(ids_of(ids), json::parse(dumps(logprobs), "engine's log-probs"))));
        } catch (const Failure &failure) {
            throw std::invalid_argument(failure.what());
        }
    }

  private:
    tokens::Logprobs logprobs_;
};

// A choice, held by Python and by its stream. Only one of them uses it at a time.
struct SharedChoice {
    tokens::Choice choice;
    std::string logprobs = {};  // of the latest output
    std::string error = {};

    // Throws std::invalid_argument, Failure, or std::bad_alloc.
    dynamo_stage_output feed(const dynamo_stage_input &input) {
        std::optional<json::Json> given;
        if (input.logprobs_json != nullptr) {
            given = json::parse_object(input.logprobs_json, "chunk's logprobs",
                                       DYNAMO_ERROR_INVALID_ARGUMENT);
        }
        const json::Json *const list =
            given && given->contains("tokens") ? &(*given)["tokens"] : nullptr;
        tokens::ChoicePart part = choice.feed(
            {input.token_ids, input.token_count},
            input.finish_reason == nullptr ? std::string_view() : input.finish_reason, list);
        dynamo_stage_output output{};
        output.text = part.text.data();
        output.text_length = part.text.size();
        output.token_count = part.tokens;
        output.finish_reason = part.reason.empty() ? nullptr : choice.reason().c_str();
        if (!part.logprobs.empty()) {
            logprobs = std::move(part.logprobs);
            output.logprobs_json = logprobs.c_str();
        }
        return output;
    }
};

using ChoicePointer = std::shared_ptr<SharedChoice>;

std::int32_t feed_stage(void *state, const dynamo_stage_input *input, dynamo_stage_output *output) {
    SharedChoice &shared = **static_cast<ChoicePointer *>(state);
    try {
        try {
            *output = shared.feed(*input);
            return DYNAMO_OK;
        } catch (const Failure &failure) {
            shared.error = failure.error().message;
        } catch (const std::bad_alloc &) {
            return DYNAMO_ERROR_OUT_OF_MEMORY;
        } catch (const std::exception &wrong) {
            shared.error = wrong.what();
        }
    } catch (const std::bad_alloc &) {
        return DYNAMO_ERROR_OUT_OF_MEMORY;
    }
    output->error = shared.error.c_str();
    return DYNAMO_ERROR_INVALID_ARGUMENT;
}

void release_stage(void *state) {
    delete static_cast<ChoicePointer *>(state);
}

class PythonChoice {
  public:
    PythonChoice(const SharedVocabulary *vocabulary, nb::handle prompt, std::uint32_t index,
                 std::uint64_t max_tokens, std::uint64_t min_tokens, nb::handle stop_ids,
                 nb::handle shown_stop_ids, std::vector<std::string> stop_strings,
                 bool includes_stop, bool skips_special_tokens, const std::string &logprobs)
        : index_(index),
          shared_(std::make_shared<SharedChoice>(SharedChoice{tokens::Choice(
              vocabulary == nullptr ? nullptr : vocabulary->vocabulary, ids_of(prompt),
              {.max_tokens = max_tokens,
               .min_tokens = min_tokens,
               .stop_ids = ids_of(stop_ids),
               .shown_stop_ids = ids_of(shown_stop_ids),
               .stop_strings = std::move(stop_strings),
               .includes_stop = includes_stop,
               .skips_special_tokens = skips_special_tokens,
               .logprobs = form_of(logprobs)})})) {
        if (vocabulary != nullptr && !vocabulary->vocabulary->is_native()) {
            foreign_choices_created.fetch_add(1, std::memory_order_relaxed);
        }
    }

    // Returns whether the request still waits for an answer.
    bool attach(std::uintptr_t stream, std::uint64_t prompt_tokens) const {
        const dynamo_text_stage stage = {new ChoicePointer(shared_), feed_stage, release_stage};
        const std::int32_t status = set_text_stage.load()(
            reinterpret_cast<dynamo_stream_t *>(stream), index_, &stage, prompt_tokens);
        if (status < 0 && status != DYNAMO_ERROR_CANCELLED &&
            status != DYNAMO_ERROR_INVALID_HANDLE) {
            throw dynamo_llm::Error::last();
        }
        return status == DYNAMO_OK;
    }

    nb::dict feed(nb::dict given) {
        Chunk chunk;
        if (!chunk.read(given.ptr())) {
            nb::raise_python_error();
        }
        const dynamo_stage_input input = {
            chunk.what.token_ids, chunk.what.token_ids == nullptr ? 0 : chunk.what.token_count,
            chunk.what.finish_reason, chunk.what.logprobs_json};
        nb::dict result = part(input);
        if (given.contains("delta")) {
            result["delta"] = given["delta"];
        }
        return result;
    }

    nb::dict finish() { return part({nullptr, 0, "stop", nullptr}); }

    bool has_ended() const { return shared_->choice.has_ended(); }
    std::uint64_t tokens() const { return shared_->choice.tokens(); }
    std::string reason() const { return shared_->choice.reason(); }
    std::uint32_t index() const { return index_; }

  private:
    nb::dict part(const dynamo_stage_input &input) {
        dynamo_stage_output output{};
        try {
            output = shared_->feed(input);
        } catch (const Failure &failure) {
            throw std::invalid_argument(failure.what());
        }
        nb::dict result;
        nb::list ids;
        for (std::size_t i = 0; i < output.token_count; ++i) {
            ids.append(input.token_ids[i]);
        }
        result["text"] = nb::str(output.text, output.text_length);
        result["token_ids"] = ids;
        result["index"] = index_;
        if (output.logprobs_json != nullptr) {
            result["logprobs"] = loads(output.logprobs_json);
        }
        if (output.finish_reason != nullptr) {
            result["finish_reason"] = output.finish_reason;
        }
        return result;
    }

    std::uint32_t index_;
    ChoicePointer shared_;
};

}  // namespace

namespace text_stages {

void set_functions(const dynamo_bridge_options &options) noexcept {
    set_text_stage = options.set_text_stage;
    forward_stream = options.forward;
}

std::uint64_t foreign_choices() noexcept {
    return foreign_choices_created.load(std::memory_order_relaxed);
}

}  // namespace text_stages

void bind_text_stages(nb::module_ &m) {
    m.def(
        "stream_forward",
        [](std::uintptr_t stream, const Held<dynamo_llm::Runtime> &runtime,
           const std::string &body) {
            if (forward_stream.load()(reinterpret_cast<dynamo_stream_t *>(stream),
                                      runtime.object.get(), body.c_str()) < 0) {
                throw dynamo_llm::Error::last();
            }
        },
        "stream"_a, "runtime"_a, "body"_a, without_gil,
        "Passes the request of a stream on to the engine of another runtime, which then owns the "
        "stream.");
    nb::class_<SharedVocabulary>(
        m, "Vocabulary", "The tokens of a tokenizer, and its decoder, in tables. Thread-safe.")
        .def("__init__", &SharedVocabulary::create, "tokens"_a, "special_ids"_a, "decoder"_a,
             "decode"_a,
             nb::sig("def __init__(self, tokens: list[str | None], special_ids: list[int], "
                     "decoder: str, decode: collections.abc.Callable[[str, list[str]], str]) -> "
                     "None"),
             "tokens: the text of each token by its id. decoder: the key of tokenizer.json, as "
             "JSON. decode: decodes tokens with decoders that are not known here, given as a JSON "
             "array.")
        .def(
            "bytes_of",
            [](const SharedVocabulary &self, std::uint32_t id) {
                const std::string bytes = self.vocabulary->bytes_of(id);
                return nb::bytes(bytes.data(), bytes.size());
            },
            "id"_a, "Returns the bytes that a token adds in the middle of a text.")
        .def("decode", &SharedVocabulary::decode, "ids"_a, "skip_special_tokens"_a,
             nb::sig("def decode(self, ids: collections.abc.Sequence[int], skip_special_tokens: "
                     "bool) -> str"),
             "Returns the text of all tokens.")
        .def(
            "publish",
            [](const SharedVocabulary &self) { return detokenizers::publish(self.vocabulary); },
            "Makes it available to callers of the C interface. Returns the number for them.")
        .def_static("withdraw", &detokenizers::withdraw, "number"_a,
                    "Ends that. What decodes with it already goes on.")
        .def_prop_ro(
            "has_byte_tokens",
            [](const SharedVocabulary &self) { return self.vocabulary->has_byte_tokens(); },
            "Whether there are byte tokens for characters that the vocabulary lacks.")
        .def_prop_ro(
            "is_native", [](const SharedVocabulary &self) { return self.vocabulary->is_native(); },
            "Whether decoding needs nothing of the library tokenizers.");
    nb::class_<PythonDetokenizer>(m, "TokenDecoder",
                                  "Decodes the token ids of an answer to text while they stream.")
        .def(nb::init<const SharedVocabulary &, nb::handle, bool>(), "vocabulary"_a,
             "prompt"_a = nb::make_tuple(), "skip_special_tokens"_a = true,
             nb::sig(
                 "def __init__(self, vocabulary: Vocabulary, prompt: "
                 "collections.abc.Sequence[int] = (), skip_special_tokens: bool = True) -> None"))
        .def("feed", &PythonDetokenizer::feed, "ids"_a,
             nb::sig("def feed(self, ids: collections.abc.Sequence[int]) -> str"),
             "Returns the text that the tokens add, without an incomplete code point at its end.")
        .def("flush", &PythonDetokenizer::flush, "Ends the answer. Returns the rest of its text.")
        .def(
            "copy", [](const PythonDetokenizer &self) { return PythonDetokenizer(self); },
            "Returns an independent copy.");
    nb::class_<tokens::StopStrings>(
        m, "StopStrings",
        "Passes text through up to the stop string that is completed first; holds back what may "
        "be the beginning of one.")
        .def(nb::init<const std::vector<std::string> &, bool>(), "stops"_a, "include"_a = false)
        .def("feed", &feed_stops, "text"_a, "Takes more text. Returns what can be shown now.")
        .def("flush", &flush_stops, "Ends the text. Returns what was held back.")
        .def(
            "copy", [](const tokens::StopStrings &self) { return tokens::StopStrings(self); },
            "Returns an independent copy.")
        .def_prop_ro("has_matched", &tokens::StopStrings::has_matched,
                     "Whether a stop string came; from then on no text is passed through.");
    nb::class_<PythonLogprobs>(m, "TokenLogprobs", "Converts log-probs to OpenAI's forms.")
        .def(nb::init<const std::string &, const SharedVocabulary &, nb::handle, bool>(), "form"_a,
             "vocabulary"_a, "prompt"_a = nb::make_tuple(), "skip_special_tokens"_a = true,
             nb::sig(
                 "def __init__(self, form: str, vocabulary: Vocabulary, prompt: "
                 "collections.abc.Sequence[int] = (), skip_special_tokens: bool = True) -> None"),
             "form: chat, completion, or completion_top (with alternatives).")
        .def("of", &PythonLogprobs::of, "ids"_a, "logprobs"_a,
             nb::sig("def of(self, ids: collections.abc.Sequence[int], logprobs: "
                     "collections.abc.Sequence[typing.Any]) -> dict[str, typing.Any]"),
             "Returns the log-probs of some tokens.");
    nb::class_<PythonChoice>(m, "TokenChoice",
                             "Converts the tokens of one choice of an answer to text.")
        .def(nb::init<const SharedVocabulary *, nb::handle, std::uint32_t, std::uint64_t,
                      std::uint64_t, nb::handle, nb::handle, std::vector<std::string>, bool, bool,
                      const std::string &>(),
             "vocabulary"_a.none(), "prompt"_a, "index"_a, "max_tokens"_a, "min_tokens"_a = 0,
             "stop_ids"_a = nb::make_tuple(), "shown_stop_ids"_a = nb::make_tuple(),
             "stop_strings"_a = nb::make_tuple(), "includes_stop"_a = false,
             "skip_special_tokens"_a = true, "logprobs"_a = "",
             nb::sig("def __init__(self, vocabulary: Vocabulary | None, prompt: "
                     "collections.abc.Sequence[int], index: int, max_tokens: int, min_tokens: int "
                     "= 0, stop_ids: collections.abc.Sequence[int] = (), shown_stop_ids: "
                     "collections.abc.Sequence[int] = (), stop_strings: "
                     "collections.abc.Sequence[str] = (), includes_stop: bool = False, "
                     "skip_special_tokens: bool = True, logprobs: str = '') -> None"),
             "vocabulary: None for callers that receive only token ids. shown_stop_ids: stop "
             "tokens that are part of the text. logprobs: their form, also raw; empty without.")
        .def("attach", &PythonChoice::attach, "stream"_a, "prompt_tokens"_a,
             "Makes it convert what is pushed into a stream. Returns False if the request has "
             "ended. From then on only the stream may use it.")
        .def("feed", &PythonChoice::feed, "chunk"_a,
             nb::sig("def feed(self, chunk: dict[str, typing.Any]) -> dict[str, typing.Any]"),
             "Converts a chunk of a token-level engine.")
        .def("finish", &PythonChoice::finish, nb::sig("def finish(self) -> dict[str, typing.Any]"),
             "Returns the last chunk of a choice that the engine ended without a finish reason.")
        .def_prop_ro("index", &PythonChoice::index)
        .def_prop_ro("has_ended", &PythonChoice::has_ended)
        .def_prop_ro("tokens", &PythonChoice::tokens, "Number of tokens of the answer.")
        .def_prop_ro("finish_reason", &PythonChoice::reason, "Empty before the end.");
}

}  // namespace dynamo::python
