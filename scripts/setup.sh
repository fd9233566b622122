# Sourced by the other scripts: finds or installs what the machine lacks, and makes virtual environments.
# Environment: PYTHON, the interpreter to use (default python3).

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# Names the Debian packages that are missing, a line each.
missing_packages() {
    command -v g++ >/dev/null || echo g++
    if ! command -v "$PYTHON" >/dev/null; then
        printf '%s\n' python3 python3-venv python3-dev
        return
    fi
    "$PYTHON" - <<'END'
import importlib.util, os, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
if sys.version_info < (3, 10):
    sys.exit("Python %s is too old; 3.10 or newer is needed (set PYTHON=...)" % version)
get = sysconfig.get_config_var
if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
    print("python%s-venv" % version)
if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    print("python%s-dev" % version)
places = [get("LIBDIR"), os.path.join(get("LIBDIR"), get("MULTIARCH") or ""), os.path.join(sys.base_prefix, "lib")]
if not any(os.path.exists(os.path.join(p, "libpython%s.so.1.0" % version)) for p in places):
    if sys.base_prefix == "/usr":
        print("libpython%s" % version)
    else:
        sys.exit("%s has no shared library; build it with --enable-shared (set PYTHON=...)" % sys.executable)
END
}

# Names the Debian packages of the toolchains that the examples in other languages need and that are missing, a line each.
missing_toolchains() {
    command -v go >/dev/null || echo golang-go
    command -v cargo >/dev/null || echo cargo
    command -v javac >/dev/null || echo default-jdk-headless
    [ -e /usr/share/java/jna.jar ] || echo libjna-java
    command -v mcs >/dev/null || echo mono-mcs
    command -v mono >/dev/null || echo mono-runtime
}

# missing_commands NAME...: those that are not there; Debian's packages have the names of the commands.
missing_commands() {
    local name
    for name in "$@"; do
        command -v "$name" >/dev/null || echo "$name"
    done
}

# install_system_packages [OPTIONAL...]: what is missing, and of the optional packages those that can be had.
install_system_packages() {
    local missing optional="$*" package
    missing=$(missing_packages) || exit 1
    [ -z "${missing// /}$optional" ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        for package in $optional; do
            if apt-get install -s -qq "$package" >/dev/null 2>&1; then
                missing="$missing $package"
            else
                say "no package $package: what needs it is skipped"
            fi
        done
        [ -z "${missing// /}" ] && return
        say "installing" $missing
        apt-get install -y -qq --no-install-recommends $missing >/dev/null
        return
    fi
    [ -z "$optional" ] || say "not installed, so what needs it is skipped:" $optional
    [ -z "${missing// /}" ] || die "These packages are missing:" $missing "
Install them, on Debian or Ubuntu with: sudo apt-get install" $missing
}

# make_environment FOLDER: a virtual environment of $PYTHON; made anew if it is one of another Python.
make_environment() {
    local wanted
    wanted=$("$PYTHON" -c 'import sys; print(sys.base_prefix, sys.version)')
    if [ "$(cat "$1/made-with" 2>/dev/null)" != "$wanted" ]; then
        say "making the virtual environment $1"
        rm -rf "$1"
        "$PYTHON" -m venv "$1"
        "$1/bin/python" -m pip install --quiet --upgrade pip
        echo "$wanted" >"$1/made-with"
    fi
}
