#!/bin/sh
# Debian packages that the slow tests and the benchmarks need. As root they are installed; otherwise what is missing is named, and
# the tests that need it fail saying the same.
set -eu
packages="debootstrap docker-registry skopeo umoci buildah podman runc qemu-user-static"
if ! command -v dpkg-query >/dev/null; then
  echo "not a Debian system: the slow tests need $packages" >&2
  exit 0
fi
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
  echo "missing for the slow tests: apt-get install$missing" >&2
  exit 0
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
