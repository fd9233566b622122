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

# Names the Debian packages of linkers, and of what else reads headers and flags, that are missing, a line each.
missing_linkers() {
    missing_commands lld mold pkg-config swig tcc
}

# Names the Debian package that compares binary interfaces, if it is missing.
missing_libabigail() {
    command -v abidiff >/dev/null || echo abigail-tools
}

# Names what counts instructions and what a benchmark reads HTTP with, and is missing, a line each.
missing_measures() {
    missing_commands valgrind
    command -v curl-config >/dev/null || echo libcurl4-openssl-dev
}

# Names what fuzzers need and what is missing, a line each: clang, and the runtime of its version.
missing_fuzzers() {
    missing_commands clang
    ls "$(clang -print-runtime-dir 2>/dev/null)"/libclang_rt.fuzzer[-.]* >/dev/null 2>&1 || echo libclang-rt-dev
}

# Names the Debian packages of the servers that tests start themselves and that are missing, a line each.
missing_servers() {
    command -v etcd >/dev/null || echo etcd-server
    # Debian puts it where only root's PATH leads.
    PATH=$PATH:/usr/sbin command -v nats-server >/dev/null || echo nats-server
}

# install_without_services PACKAGE...: Debian starts the services of what it installs, now and at each boot; here it does not.
install_without_services() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    for package in "$@"; do
        service=${package/#etcd-server/etcd}
        case $package in
            etcd-server | nats-server)
                [ ! -e /etc/init.d/$service ] || update-rc.d $service disable
                ! command -v systemctl >/dev/null || systemctl --quiet disable $service
                ;;
        esac
    done
)

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
        install_without_services $missing
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
