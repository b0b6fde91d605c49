#!/usr/bin/env bash
# Make a folder with Debian's aarch64 Python and cffi, enough to run the core under qemu's user
# emulation: tests/packaging/aarch64_root.sh FOLDER, then MUXCORE_AARCH64_ROOT=FOLDER make wheels.
# It needs apt-get and qemu-user-static; the lists it fetches are its own, the system stays as it is.
set -euo pipefail

root=$(mkdir -p "${1:?usage: aarch64_root.sh FOLDER}" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,packages}
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64
  -o "Dir::State=$work" -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache"
  -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)

"${apt[@]}" update
python=$(apt-cache "${apt[@]:2}" depends python3-minimal | sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal/\1/p')
cd "$work/packages"
"${apt[@]}" download libc6 zlib1g libexpat1 libffi8 libuuid1 python3-cffi-backend \
  "$python-minimal" "lib$python-minimal" "lib$python-stdlib"
for package in *.deb; do
  dpkg-deb --extract "$package" "$root"
done
echo "$root holds $python for aarch64"
