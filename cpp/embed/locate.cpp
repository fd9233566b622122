// SPDX-License-Identifier: Apache-2.0
#include "embed/locate.hpp"

#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "base/environment.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "embed/ask.hpp"
#include "embed/platform.hpp"

namespace dynamo::embed {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> entries(const fs::path &folder) {
    std::vector<fs::path> result;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
        result.push_back(at->path());
    }
    return result;
}

// Returns the module for a version of Python ("3.11") in a package folder; "" if the folder has none.
std::string bridge_in(const fs::path &package, const std::string &version) {
    const std::string prefix = "_core.cpython-" + version.substr(0, 1) + version.substr(2) + "-";
    for (const fs::path &entry : entries(package)) {
        if (entry.filename().string().starts_with(prefix)) {
            return entry.string();
        }
    }
    return {};
}

// Describes the versions of Python that the packages have modules for: "the package dynamo_llm in ... is built for
// Python 3.11, 3.12". Requires a package.
std::string describe_versions(const std::vector<fs::path> &packages) {
    std::string text;
    for (const fs::path &package : packages) {
        for (const fs::path &entry : entries(package)) {
            const std::string name = entry.filename().string();
            if (name.starts_with("_core.cpython-3")) {
                const std::string digits = name.substr(14, name.find('-', 14) - 14);
                text += (text.empty() ? "" : ", ") + digits.substr(0, 1) + "." + digits.substr(1);
            }
        }
    }
    return "the package dynamo_llm in " + packages.front().string() + " is built for " +
           (text.empty() ? "no version of Python" : "Python " + text);
}

// Returns the package folders that belong to this library's file: in a wheel, the one that contains the file; after
// a CMake installation, those below the file's folder (<prefix>/lib/python3.N/site-packages).
std::vector<fs::path> own_packages() {
    std::vector<fs::path> packages;
    const std::string own = platform::own_path();
    if (own.empty()) {
        return packages;
    }
    const fs::path folder = fs::path(own).parent_path();
    std::error_code error;
    if (fs::exists(folder.parent_path() / "runtime" / "host.py", error)) {
        packages.push_back(folder.parent_path());
    }
    for (const fs::path &entry : entries(folder)) {
        const fs::path package = entry / "site-packages" / "dynamo_llm";
        if (entry.filename().string().starts_with("python3") && fs::exists(package, error)) {
            packages.push_back(package);
        }
    }
    return packages;
}

// Returns <prefix>/bin/python of the environment that contains this library's file; "" if none does.
std::string own_interpreter() {
    for (fs::path at = platform::own_path(); at.has_relative_path(); at = at.parent_path()) {
        const std::string name = at.filename().string();
        if (!name.starts_with("python3.")) {
            continue;
        }
        const fs::path bin = at.parent_path().parent_path() / "bin";
        for (const std::string &executable :
             {name, std::string("python3"), std::string("python")}) {
            if (platform::is_executable((bin / executable).string())) {
                return (bin / executable).string();
            }
        }
    }
    return {};
}

// Returns the folder of the interpreter that an environment was made with: "home" of its pyvenv.cfg, as Python itself
// reads it. An environment without that file is an installation of Python.
fs::path home_of(const fs::path &prefix) {
    std::ifstream file(prefix / "pyvenv.cfg");
    for (std::string line; std::getline(file, line);) {
        const std::size_t equals = line.find('=');
        if (equals == line.npos ||
            line.substr(0, line.find_last_not_of(" \t", equals - 1) + 1) != "home") {
            continue;
        }
        const std::size_t begin = line.find_first_not_of(" \t", equals + 1);
        const std::size_t end = line.find_last_not_of(" \t\r");
        return begin == line.npos ? fs::path() : fs::path(line.substr(begin, end - begin + 1));
    }
    return prefix / "bin";
}

// Returns the location of the environment that this library's file is in, if files alone tell it: a wheel in
// <prefix>/lib/python3.N/site-packages, and a shared library of Python in the usual place. Otherwise the interpreter has
// to be asked, which takes 20 ms or more.
std::optional<Location> own_location(const std::string &executable, const fs::path &package) {
    const fs::path folder = package.parent_path().parent_path();  // lib/python3.N
    const std::string name = folder.filename().string();
    const std::string version = name.starts_with("python3.") ? name.substr(6) : "";
    if (version.empty() || version.find_first_not_of("0123456789", 2) != version.npos ||
        package.parent_path().filename() != "site-packages") {
        return std::nullopt;
    }
    const fs::path prefix = folder.parent_path().parent_path();
    const fs::path library =
        home_of(prefix).parent_path() / "lib" / ("libpython" + version + ".so.1.0");
    std::error_code error;
    Location location{executable, library.string(), package.string(), bridge_in(package, version)};
    if (location.bridge.empty() || fs::path(executable).parent_path() != prefix / "bin" ||
        !fs::exists(library, error)) {
        return std::nullopt;
    }
    return location;
}

std::string variable(const char *name) {
    const char *const value = environment::variable(name);
    return value == nullptr ? "" : value;
}

std::string shared_library_of(const Interpreter &interpreter) {
    std::string looked;
    for (const std::string &folder : interpreter.library_folders) {
        const fs::path path = fs::path(folder) / interpreter.library_name;
        std::error_code error;
        if (fs::exists(path, error)) {
            return path.string();
        }
        looked += (looked.empty() ? "" : ", ") + folder;
    }
    const std::string package = "libpython" + interpreter.version();
    reject_python("is Python " + interpreter.version() + " without its shared library " +
                  interpreter.library_name + " (looked in " + looked + "); install the package " +
                  package + " (Debian, Ubuntu: apt install " + package +
                  "; Fedora: dnf install python3-libs), or build Python with --enable-shared");
}

Location check(const std::string &executable, const std::vector<fs::path> &own) {
    const Interpreter interpreter = ask(executable);
    if (!interpreter.is_cpython) {
        reject_python("is not CPython");
    }
    if (interpreter.major != 3 || interpreter.minor < 10) {
        reject_python("is Python " + interpreter.version() + "; 3.10 or newer is needed");
    }
    if (interpreter.is_free_threaded) {
        reject_python("is a free-threaded build of Python, which this version does not support");
    }
    Location location;
    location.executable = interpreter.executable;
    std::vector<fs::path> packages = own;
    if (!interpreter.package_dir.empty()) {
        packages.push_back(interpreter.package_dir);
    }
    for (const fs::path &package : packages) {
        location.bridge = bridge_in(package, interpreter.version());
        if (!location.bridge.empty()) {
            location.package_dir = package.string();
            break;
        }
    }
    if (location.bridge.empty() && !interpreter.package_dir.empty()) {
        // Editable installation: the module is in a parent folder of the library, the Python files are with the
        // sources.
        location.bridge = bridge_in(fs::path(platform::own_path()).parent_path().parent_path(),
                                    interpreter.version());
        location.package_dir = interpreter.package_dir;
    }
    if (location.bridge.empty()) {
        reject_python(
            "is Python " + interpreter.version() +
            (packages.empty()
                 ? " without the package dynamo_llm; run in a clone of dynamo-llm: " + executable +
                       " -m pip install . (or give the path of its wheel in place of the dot)"
                 : ", but " + describe_versions(packages)));
    }
    location.library = shared_library_of(interpreter);
    return location;
}

struct Candidate {
    std::string origin;
    std::string executable;  // "" if the origin does not name one
    bool is_own = false;     // of the environment that this library is in
};

std::vector<Candidate> candidates(const std::string &wanted) {
    std::vector<Candidate> list;
    if (!wanted.empty()) {
        return {{"\"python.executable\" of the configuration", wanted}};
    }
    if (const std::string value = variable("DYNAMO_LLM_PYTHON"); !value.empty()) {
        return {{"environment variable DYNAMO_LLM_PYTHON", value}};
    }
    list.push_back({"the environment that this library is installed in", own_interpreter(), true});
    const std::string environment = variable("VIRTUAL_ENV");
    list.push_back({"environment variable VIRTUAL_ENV",
                    environment.empty() ? "" : environment + "/bin/python"});
    const std::size_t before = list.size();
    for (const std::string &folder : platform::search_path()) {
        const std::string executable = folder + "/python3";
        if (platform::is_executable(executable)) {
            list.push_back({"python3 on PATH", executable});
        }
    }
    if (list.size() == before) {
        list.push_back({"python3 on PATH", ""});
    }
    return list;
}

}  // namespace

Location locate(const std::string &wanted) {
    const std::vector<fs::path> own = own_packages();
    std::string tried;
    for (const Candidate &candidate : candidates(wanted)) {
        if (candidate.executable.empty()) {
            tried += "\n  - " + candidate.origin + ": none";
            continue;
        }
        try {
            std::optional<Location> known;
            if (candidate.is_own && own.size() == 1) {
                known = own_location(candidate.executable, own[0]);
            }
            Location location = known ? *std::move(known) : check(candidate.executable, own);
            log::write(DYNAMO_LOG_INFO, "dynamo_llm.embed",
                       ("Python: " + location.executable + " (" + candidate.origin + "), library " +
                        location.library + ", package " + location.package_dir)
                           .c_str());
            return location;
        } catch (const Failure &failure) {
            tried +=
                "\n  - " + candidate.origin + ": " + candidate.executable + " " + failure.what();
        }
    }
    reject_python(
        "no usable Python for this engine. Looked at:" + tried +
        "\nName an interpreter whose environment has dynamo-llm with \"python\": {\"executable\": "
        "\"...\"} or the environment variable DYNAMO_LLM_PYTHON. The engines \"echo\" and "
        "\"scripted\" need no Python.");
}

Location locate_for_running(const std::string &version) {
    std::vector<fs::path> packages = own_packages();
    // A program that links the static library can be in any folder, but its interpreter may have the package.
    const std::string executable = variable("DYNAMO_LLM_PYTHON");
    if (packages.empty() && !executable.empty()) {
        packages.push_back(ask(executable).package_dir);
    }
    for (const fs::path &package : packages) {
        if (const std::string bridge = bridge_in(package, version); !bridge.empty()) {
            return {"", "", package.string(), bridge};
        }
    }
    reject_python("this program runs Python " + version + ", but " +
                  (packages.empty()
                       ? "the package dynamo_llm was not found near " + platform::own_path()
                       : describe_versions(packages)));
}

}  // namespace dynamo::embed
