// SPDX-License-Identifier: Apache-2.0
#include "embed/ask.hpp"

#include <optional>
#include <sstream>

#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "base/json.hpp"
#include "base/utf8.hpp"
#include "embed/platform.hpp"

namespace dynamo::embed {
namespace {

// Runs isolated (-I), so that the host's environment variables have no effect. Imports site only after duplicating
// stdout (-S): then the answer arrives even if modules that site runs (.pth files, sitecustomize) print to,
// redirect, or close stdout. Ends with os._exit(), so that exit functions of these modules cannot delay it.
// LIBDIR is where Python was installed: a copy of it that was moved has its own library in the new place.
// INSTSONAME names the static library if the executable was built without a shared one, as Debian's is; the shared one
// may still exist.
constexpr const char *question = R"(
import os, sys
answer = os.dup(1)
import site
site.main()
import importlib.util, json, sysconfig
get = sysconfig.get_config_var
spec = importlib.util.find_spec("dynamo_llm")
places = [get("LIBDIR"), os.path.join(sys.base_prefix, "lib"), os.path.join(sys.base_prefix, "lib64")]
if not str(get("LIBDIR")).startswith(sys.base_prefix):
    places = places[1:2] + places[:1] + places[2:]
if get("MULTIARCH"):
    places += [os.path.join(str(p), get("MULTIARCH")) for p in places[:2]]
if sys.platform == "darwin" and get("PYTHONFRAMEWORKPREFIX"):
    places.append(get("PYTHONFRAMEWORKPREFIX"))
abi = "%d.%d%s" % (sys.version_info[0], sys.version_info[1], getattr(sys, "abiflags", ""))
name = get("INSTSONAME") or ""
if name.endswith(".a") or not name:
    name = "libpython" + abi + (".dylib" if sys.platform == "darwin" else ".so.1.0")
os.write(answer, ("\n" + json.dumps({
    "implementation": sys.implementation.name,
    "major": sys.version_info[0],
    "minor": sys.version_info[1],
    "free_threaded": bool(get("Py_GIL_DISABLED")),
    "library_folders": [p for i, p in enumerate(places) if p and p not in places[:i]],
    "library_name": name,
    "package": os.path.dirname(spec.origin) if spec and spec.origin else "",
}) + "\n").encode())
os._exit(0)
)";

constexpr std::chrono::seconds patience{20};

std::string last_line(const std::string &text) {
    const std::size_t end = text.find_last_not_of(" \n\r\t");
    if (end == text.npos) {
        return {};
    }
    const std::size_t before = text.rfind('\n', end);
    const std::size_t begin = before == text.npos ? 0 : before + 1;
    return text.substr(begin, end - begin + 1);
}

// Parses the answer from a line. Returns nothing for other lines, which any module may have printed.
std::optional<Interpreter> read_answer(const std::string &line) {
    if (line.empty() || line.front() != '{') {
        return std::nullopt;
    }
    Interpreter interpreter;
    try {
        const json::Json answer = json::parse(line, "answer");
        interpreter.major = answer.at("major");
        interpreter.minor = answer.at("minor");
        interpreter.is_cpython = json::is_text(answer.at("implementation"), "cpython");
        interpreter.is_free_threaded = answer.at("free_threaded");
        interpreter.library_folders = answer.at("library_folders").get<std::vector<std::string>>();
        interpreter.library_name = answer.at("library_name");
        interpreter.package_dir = answer.at("package");
    } catch (const std::exception &) {
        return std::nullopt;
    }
    return interpreter;
}

std::optional<Interpreter> find_answer(const std::string &text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        // A line without a newline may be incomplete.
        if (auto answer = lines.eof() ? std::nullopt : read_answer(line)) {
            return answer;
        }
    }
    return std::nullopt;
}

}  // namespace

void reject_python(const std::string &reason) {
    throw Failure(DYNAMO_ERROR_PYTHON_UNAVAILABLE, reason, "embed");
}

Interpreter ask(const std::string &executable) {
    if (!platform::is_executable(executable)) {
        reject_python("is not an executable file");
    }
    std::optional<Interpreter> interpreter;
    const platform::Output output =
        platform::run({executable, "-I", "-S", "-c", question}, patience,
                      [&interpreter](const std::string &text) {
                          interpreter = find_answer(text);
                          return interpreter.has_value();
                      });
    if (!output.was_started) {
        reject_python("cannot be started: " + output.text);
    }
    if (interpreter) {
        interpreter->executable = executable;
        return *std::move(interpreter);
    }
    if (output.timed_out) {
        reject_python("did not answer within 20 seconds");
    }
    const std::string line = last_line(output.text);
    reject_python("is not a working Python; it printed: " +
                  (line.empty() ? "nothing" : as_utf8(line.substr(0, 300))));
}

}  // namespace dynamo::embed
