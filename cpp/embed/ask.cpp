// SPDX-License-Identifier: Apache-2.0
#include "embed/ask.hpp"

#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/utf8.hpp"
#include "embed/platform.hpp"

namespace dynamo::embed {
namespace {

// Isolated (-I), so that no variable of the host's environment has a say. INSTSONAME is the static
// library where Python was built without a shared one, as Debian's executable is; the shared one
// may be there all the same.
constexpr const char *question = R"(
import importlib.util, json, os, sys, sysconfig
get = sysconfig.get_config_var
spec = importlib.util.find_spec("dynamo_llm")
places = [get("LIBDIR"), os.path.join(sys.base_prefix, "lib"), os.path.join(sys.base_prefix, "lib64")]
if get("MULTIARCH"):
    places += [os.path.join(str(p), get("MULTIARCH")) for p in places[:2]]
if sys.platform == "darwin" and get("PYTHONFRAMEWORKPREFIX"):
    places.append(get("PYTHONFRAMEWORKPREFIX"))
abi = "%d.%d%s" % (sys.version_info[0], sys.version_info[1], getattr(sys, "abiflags", ""))
name = get("INSTSONAME") or ""
if name.endswith(".a") or not name:
    name = "libpython" + abi + (".dylib" if sys.platform == "darwin" else ".so.1.0")
print("\n" + json.dumps({
    "implementation": sys.implementation.name,
    "major": sys.version_info[0],
    "minor": sys.version_info[1],
    "free_threaded": bool(get("Py_GIL_DISABLED")),
    "library_folders": [p for i, p in enumerate(places) if p and p not in places[:i]],
    "library_name": name,
    "package": os.path.dirname(spec.origin) if spec and spec.origin else "",
}))
)";

constexpr std::chrono::seconds patience{20};

[[noreturn]] void reject(const std::string &why) {
    throw Failure(DYNAMO_ERROR_PYTHON_UNAVAILABLE, why, "embed");
}

std::string last_line(const std::string &text) {
    const std::size_t end = text.find_last_not_of(" \n\r\t");
    if (end == text.npos) {
        return {};
    }
    const std::size_t begin = text.rfind('\n', end);
    return text.substr(begin == text.npos ? 0 : begin + 1,
                       end - (begin == text.npos ? 0 : begin + 1) + 1);
}

}  // namespace

Interpreter ask(const std::string &executable) {
    if (!platform::is_executable(executable)) {
        reject("is no executable file");
    }
    const platform::Output output = platform::run({executable, "-I", "-c", question}, patience);
    if (!output.was_started) {
        reject("cannot be started: " + output.text);
    }
    const std::string line = last_line(output.text);
    Interpreter interpreter;
    interpreter.executable = executable;
    try {
        const json::Json answer = json::Json::parse(line);
        interpreter.major = answer.at("major");
        interpreter.minor = answer.at("minor");
        interpreter.is_cpython = json::is_text(answer.at("implementation"), "cpython");
        interpreter.is_free_threaded = answer.at("free_threaded");
        interpreter.library_folders = answer.at("library_folders").get<std::vector<std::string>>();
        interpreter.library_name = answer.at("library_name");
        interpreter.package_dir = answer.at("package");
    } catch (const json::Json::exception &) {
        if (output.timed_out) {
            reject("did not answer within 20 seconds");
        }
        reject("is no working Python; it said: " +
               (line.empty() ? "nothing" : as_utf8(line.substr(0, 300))));
    }
    return interpreter;
}

}  // namespace dynamo::embed
