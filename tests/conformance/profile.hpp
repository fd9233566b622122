// SPDX-License-Identifier: Apache-2.0
// What an engine can do on demand: a JSON object, of which profiles/default.json has the defaults.
//
//   "config"       the runtime's configuration
//   "short"        a body whose answer has a few tokens, always the same
//   "long"         a body whose answer has 12 tokens or more, always the same
//   "very_long"    a body as "long", for an engine that runs ahead of a slow reader: its answer must not be computed
//                  before the reader has gone; null, the default, is "long"
//   "several"      a body with "{i}" in it, or an array of bodies, whose answers differ
//   "stop"         a body whose answer may be cut by a stop string
//   "max_tokens"   a body whose answer has 6 tokens or more, to be cut at 5
//   "unicode"      a body whose answer has characters of several bytes
//   "choices"      a body that may be asked for with "n": 2
//   "usage"        true: the last response has token counts
//   "token_ids"    true: the responses have token ids
//   "prefill"      a body as "long", whose prompt takes a while to read
//   "busy"         number of requests that keep it busy: one more waits, in the engine, for one of them
//   "silent"       a body whose answer does not begin
//   "stall"        {"body": ..., "text": ...}: says the text, then nothing more
//   "refused"      {"body": ..., "status": "NOT_SUPPORTED", "message": part}: sending it fails
//   "fails_first"  the same: it fails before the first token
//   "fails_later"  the same, with a "text" that it says before; "python": the type of its exception
//
// A text in the place of one of these, but "config", "short" and "long", is the reason why the engine cannot do that;
// what needs it is skipped with that reason.
#ifndef CONFORMANCE_PROFILE_HPP
#define CONFORMANCE_PROFILE_HPP

#include <stdexcept>
#include <string>

// Thrown by a case that this engine, or this way of delivery, cannot produce.
class Skipped : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

class Profile {
  public:
    // Of a file, or of a configuration in JSON; what it lacks is taken from `defaults`, another file. Throws
    // std::runtime_error.
    static Profile read(const std::string &file_or_config, const std::string &defaults);

    // JSON of one of the above; throws Skipped with the engine's reason.
    std::string get(const std::string &key) const;
    // A member of one of the above that is an object: a text, or "" if there is none.
    std::string text(const std::string &key, const std::string &member) const;
    // "very_long", or else "long".
    std::string very_long() const;
    // The configuration with other members: an object.
    std::string config(const std::string &changes) const;
    // The engine's name.
    std::string engine() const;

  private:
    explicit Profile(std::string json) : json_(std::move(json)) {}

    std::string json_;
};

#endif
