#!/usr/bin/env bash
# Checks that there is a Chromium and its chromedriver, with which the explorer is tested. As root on Debian or Ubuntu what is
# missing is installed; otherwise the command to do so is printed.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

packages=()
command -v chromium >/dev/null || command -v google-chrome >/dev/null || packages+=(chromium)
command -v chromedriver >/dev/null || packages+=(chromium-driver)
[ ${#packages[@]} -eq 0 ] && exit

install="apt-get install -y --no-install-recommends ${packages[*]}"
if ! command -v apt-get >/dev/null; then
    die "the browser test needs chromium and chromedriver; this system's package manager has them"
elif [ "$(id -u)" -ne 0 ]; then
    die "the browser test needs packages that are missing: sudo $install"
fi
say "$install"
apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null ||
    die "apt-get could not install ${packages[*]}"
