// SPDX-License-Identifier: Apache-2.0
// A profile describes the requests for which an engine behaves in a certain way. It is a JSON object;
// profiles/default.json has the defaults.
//
//   "config"       the runtime's configuration
//   "short"        a body whose answer has a few tokens, always the same
//   "long"         a body whose answer has 12 tokens or more, always the same
//   "very_long"    like "long", for an engine that runs ahead of a slow reader: its answer must take longer to compute
//                  than its reader stays; null, the default, means "long"
//   "several"      a body with "{i}" in it, or an array of bodies, whose answers differ
//   "stop"         a body whose answer may be cut by a stop string
//   "max_tokens"   a body whose answer has 6 tokens or more, to be cut at 5
//   "unicode"      a body whose answer has characters of several bytes
//   "choices"      a body that may be asked for with "n": 2
//   "usage"        true: the last response has token counts
//   "token_ids"    true: the responses have token ids
//   "prefill"      like "long", with a prompt whose prefill takes a while
//   "busy"         number of requests that fill the engine: one more is queued in the engine
//   "silent"       a body whose answer never begins
//   "stall"        {"body": ..., "text": ...}: the engine pushes the text, then nothing more
//   "refused"      {"body": ..., "status": "NOT_SUPPORTED", "message": part of the message}: sending it fails
//   "fails_first"  same keys: the request fails before the first token
//   "fails_later"  same keys, and the "text" pushed before the failure; "python": the type of the exception
//
// If the value of a key (except "config", "short", and "long") is a plain string, the engine does not support it: the
// cases that need it are skipped, with the string as the reason.
#ifndef CONFORMANCE_PROFILE_HPP
#define CONFORMANCE_PROFILE_HPP

#include <stdexcept>
#include <string>

// Thrown by a case that this engine or delivery mode does not support.
class Skipped : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

class Profile {
  public:
    // Reads a profile from a file or a configuration in JSON. Missing keys are taken from the file `defaults`. Throws
    // std::runtime_error.
    static Profile read(const std::string &file_or_config, const std::string &defaults);

    // Returns the JSON value of a key; throws Skipped with the engine's reason if it is not supported.
    std::string get(const std::string &key) const;
    // Returns a string member of a key whose value is an object; "" if it is missing.
    std::string text(const std::string &key, const std::string &member) const;
    // Returns "very_long" if it is set, otherwise "long".
    std::string very_long() const;
    // Returns the configuration, changed by the members of the object `changes`.
    std::string config(const std::string &changes) const;
    // Returns the engine's name.
    std::string engine() const;

  private:
    explicit Profile(std::string json) : json_(std::move(json)) {}

    std::string json_;
};

#endif
