#!/bin/sh
# build.sh SOURCE PREFIX: builds the wheel, installs it with what it needs into the virtual environment PREFIX, and
# compiles the C example against it. PREFIX can then be copied to the same place of a machine without a compiler.
set -eu
source=$1
prefix=$2
here=$(dirname "$0")
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends ca-certificates g++ python3-dev python3-venv >/dev/null

# Also heard by the environment in which pip builds the wheel.
export PIP_CONSTRAINT="$here/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv /build
/build/bin/pip wheel --quiet --wheel-dir /wheels "$source"

# Without pip: nothing is to be installed where this runs.
python3 -m venv --without-pip "$prefix"
/build/bin/pip --python "$prefix/bin/python" install --quiet --no-index --find-links /wheels dynamo-llm

gcc -O2 -Wall -Wextra -Werror -o "$prefix/bin/dynamo-llm-chat" "$source/examples/c/chat.c" \
    $("$prefix/bin/dynamo-llm" config --cflags --libs)
