#!/bin/sh
# frontend.sh PREFIX: installs the frontend of NVIDIA Dynamo into the virtual environment PREFIX.
set -eu
prefix=$1
here=$(dirname "$0")
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1
apt-get update -qq
apt-get install -y -qq --no-install-recommends ca-certificates python3-venv >/dev/null
python3 -m venv /build
python3 -m venv --without-pip "$prefix"
# frontend.txt is complete: what else the package declares serves its other parts, and would double the image.
/build/bin/pip --python "$prefix/bin/python" install --quiet --no-deps --only-binary :all: -r "$here/frontend.txt"
