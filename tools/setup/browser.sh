#!/usr/bin/env bash
# Checks that there is a Chromium and its chromedriver, with which the explorer is tested. As root on Debian or Ubuntu what is
# missing is installed; otherwise the command to do so is printed.
set -euo pipefail

. "$(dirname "$0")/packages.sh"

packages=()
command -v chromium >/dev/null || command -v google-chrome >/dev/null || packages+=(chromium)
command -v chromedriver >/dev/null || packages+=(chromium-driver)
install_missing "the browser test" ${packages[@]+"${packages[@]}"}
