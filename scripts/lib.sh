# Shared by the scripts beside it: what a step needs, how it is installed, where the programs are built.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
install=yes # --no-install refuses instead

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# need COMMAND=PACKAGE ...: installs the Debian packages of the commands that are missing, after saying so.
need() {
    local missing=() pair
    for pair in "$@"; do
        find_command "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$install" = yes ] || die "missing Debian packages: ${missing[*]}; install them, or run without --no-install"
    command -v apt-get >/dev/null || die "missing: ${missing[*]} (names of Debian's packages; there is no apt-get here, install them your way)"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    say "installing Debian packages: ${missing[*]}"
    "${sudo[@]}" apt-get update -qq >&2 &&
        DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        die "apt-get could not install: ${missing[*]}"
}

# PostgreSQL's server programs are not on Debian's PATH.
find_command() {
    command -v "$1" 2>/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$1"
}

need_rust() {
    command -v cargo >/dev/null ||
        die "cargo is missing: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer (https://rustup.rs)"
}

# Release programs, static: a peer that maps no shared library is a smaller peer. Sets $bin, where all three are.
build_release() {
    local host out small="-C force-unwind-tables=no"
    host=$(rustc -vV | sed -n 's/^host: //p')
    out=${CARGO_TARGET_DIR:-$root/target}/$host
    # Packed relocations take 100 kB less of each peer's memory; glibc applies them from 2.36 on.
    printf '2.36\n%s\n' "$(getconf GNU_LIBC_VERSION | sed 's/^glibc //')" | sort -VC && small+=" -C link-arg=-Wl,-z,pack-relative-relocs"
    RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --locked --release --target "$host" -p hopcast-cli -p hopcast-signalling >&2 &&
        RUSTFLAGS="-C target-feature=+crt-static $small" \
            cargo build --locked --profile peer --target "$host" -p hopcast-peer >&2 || die "the build failed"
    bin=$out/release
    ln -sf "$out/peer/hopcast-peer" "$bin/hopcast-peer"
}

# The command `hopcast` for scripts that only need one: what was built here, else what PATH has, else a build. Sets $hopcast.
find_hopcast() {
    local host
    # Without Rust PATH may have it.
    host=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p') || true
    for hopcast in "${HOPCAST_BIN_DIR:-/nonexistent}/hopcast" "${CARGO_TARGET_DIR:-$root/target}/$host/release/hopcast" "$(command -v hopcast)"; do
        [ -x "$hopcast" ] && return
    done
    need_rust
    say "hopcast is missing: building it (release, static)"
    build_release
    hopcast=$bin/hopcast
}

# need_docker ELSE: a Docker Engine that answers, or an end that says what to do; ELSE is one more way out, or empty.
need_docker() {
    command -v docker >/dev/null || die "the docker command is missing (Debian: apt-get install docker.io)"
    timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
        die "Docker does not answer at ${DOCKER_HOST:-unix:///var/run/docker.sock}: start it (systemctl start docker, or dockerd &)$1"
}
