#!/bin/sh
# runtime.sh PACKAGE...: makes a plain Debian into one that runs these packages, as the user 10001, who owns /data alone.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/*
groupadd --gid 10001 dynamo
useradd --uid 10001 --gid dynamo --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin dynamo
install -d -o dynamo -g dynamo -m 0700 /data
