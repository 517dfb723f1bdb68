# shellcheck shell=bash
# What the scripts share. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit
# One target folder for all that is built here, wherever the user keeps it.
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$target"
target=$(cd "$target" && pwd) || exit
export CARGO_TARGET_DIR=$target
export dist=$target/dist

case $(uname -s) in
    Darwin) library_suffix=dylib ;;
    *) library_suffix=so ;;
esac
export library_suffix

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# Cargo tells only of what it builds, and of nothing where there is no terminal to show progress on.
cargo_quietly() {
    if [[ -t 2 ]]; then
        cargo "$@"
    else
        cargo "$@" --quiet
    fi
}

# The CoAP plugin's DTLS is OpenSSL's: the system's where its headers are, else one that is built along, which takes minutes.
# To be handed to every call of cargo for the whole workspace, so that nothing is built twice.
# shellcheck disable=SC2034 # for the scripts that source this
coap_features=()
has_openssl() {
    local folder
    [[ -z ${OPENSSL_DIR:-} ]] || return 0
    pkg-config --exists openssl 2>/dev/null && return 0
    for folder in /usr /usr/local /opt/homebrew/opt/openssl@3 /usr/local/opt/openssl@3; do
        [[ -e $folder/include/openssl/ssl.h ]] && return 0
    done
    return 1
}
if ! has_openssl; then
    # shellcheck disable=SC2034
    coap_features=(--features tracemq-plugin-coap/vendored-openssl)
fi

# The names of the plugin packages: one loadable library each.
plugin_packages() {
    sed -n 's/^name = "\(.*\)"$/\1/p' plugins/*/cdylib/Cargo.toml
}

# install_if_changed FILE FOLDER: never writes into a file that may be running, and keeps its time when nothing changed,
# so that the host's descriptor cache stays good.
install_if_changed() {
    local file=$1 folder=$2 name
    name=$(basename "$file")
    # Whatever the umask: plugins that others can write to are not trusted.
    mkdir -p "$folder"
    chmod go-w "$folder"
    if ! cmp -s "$file" "$folder/$name"; then
        cp "$file" "$folder/.$name.new"
        chmod go-w "$folder/.$name.new"
        mv -f "$folder/.$name.new" "$folder/$name"
    fi
}

# need_programs PROGRAM=PACKAGE...: installs the Debian packages of the programs that are missing.
need_programs() {
    local pair program missing=()
    PATH=$PATH:/usr/sbin:/sbin
    for pair in "$@"; do
        program=${pair%%=*}
        command -v "$program" >/dev/null || missing+=("${pair#*=}")
    done
    ((${#missing[@]})) || return 0
    need_packages "${missing[@]}"
}

# need_packages PACKAGE...: installs these Debian packages.
need_packages() {
    local missing=("$@")
    command -v apt-get >/dev/null || die "these are needed and can't be installed here without apt-get: ${missing[*]}"
    local sudo=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "installing ${missing[*]} needs root or sudo"
        sudo=(sudo)
    fi
    say "installing ${missing[*]}"
    local log=$target/apt.log
    local install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}")
    # The package lists of a fresh machine are empty or old: then, and only then, they are fetched.
    if ! "${install[@]}" >"$log" 2>&1; then
        { "${sudo[@]}" apt-get update -q && "${install[@]}"; } >>"$log" 2>&1 || {
            tail -n 20 "$log" >&2
            die "could not install ${missing[*]}"
        }
    fi
}

# need_files FILE=PACKAGE...: installs the Debian packages of the files that are missing.
need_files() {
    local pair missing=()
    for pair in "$@"; do
        [[ -e ${pair%%=*} ]] || missing+=("${pair#*=}")
    done
    ((${#missing[@]})) || return 0
    need_packages "${missing[@]}"
}

# need_python PACKAGE==VERSION...: these packages from PyPI in a virtual environment of ours, $target/python.
need_python() {
    local folder=$target/python package missing=()
    for package in "$@"; do
        [[ -e $folder/.installed/$package ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    need_programs python3=python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv
    say "installing ${missing[*]} into $folder"
    [[ -x $folder/bin/python3 ]] || python3 -m venv "$folder"
    "$folder/bin/python3" -m pip install --quiet --disable-pip-version-check "${missing[@]}" >"$target/pip.log" 2>&1 || {
        tail -n 20 "$target/pip.log" >&2
        die "could not install ${missing[*]} from PyPI"
    }
    mkdir -p "$folder/.installed"
    for package in "${missing[@]}"; do
        : >"$folder/.installed/$package"
    done
}

# need_npm PACKAGE@VERSION...: these packages from npm in a folder of ours, $target/node.
need_npm() {
    local folder=$target/node package missing=()
    for package in "$@"; do
        # The slash of a scoped name can't stand in a file's name.
        [[ -e $folder/.installed/${package//\//+} ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    need_programs node=nodejs npm=npm
    say "installing ${missing[*]} into $folder"
    mkdir -p "$folder/.installed"
    [[ -e $folder/package.json ]] || echo '{"private": true}' >"$folder/package.json"
    npm install --prefix "$folder" --no-audit --no-fund --save-exact "${missing[@]}" >"$target/npm.log" 2>&1 || {
        tail -n 20 "$target/npm.log" >&2
        die "could not install ${missing[*]} from npm"
    }
    for package in "${missing[@]}"; do
        : >"$folder/.installed/${package//\//+}"
    done
}

# need_crate PROGRAM@VERSION...: these programs from crates.io in a folder of ours, $target/crates/bin.
need_crate() {
    local folder=$target/crates program
    for program in "$@"; do
        [[ -e $folder/.installed/$program ]] && continue
        say "installing $program into $folder"
        cargo install --quiet --locked --root "$folder" --target-dir "$target/cargo-install" "$program" >"$target/crates.log" 2>&1 || {
            tail -n 20 "$target/crates.log" >&2
            die "could not install $program from crates.io"
        }
        mkdir -p "$folder/.installed"
        : >"$folder/.installed/$program"
    done
}
