# Read by other scripts: installs Debian packages that are missing.

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# install_missing WHAT PACKAGE...: as root on Debian or Ubuntu they are installed; otherwise the command to do so, or what is
# needed, is printed. WHAT needs them.
install_missing() {
    local what=$1 install
    shift
    [ $# -eq 0 ] && return
    install="apt-get install -y --no-install-recommends $*"
    if ! command -v apt-get >/dev/null; then
        die "$what needs what Debian has in these packages: $*; this system's package manager has it, too"
    elif [ "$(id -u)" -ne 0 ]; then
        die "$what needs packages that are missing: sudo $install"
    fi
    say "$install"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null ||
        die "apt-get could not install $*"
}
