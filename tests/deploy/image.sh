#!/usr/bin/env bash
# Builds the image, runs it as it should be run, and prints what it costs. By hand: it needs a Docker Engine, which CI has not.
#
#   image.sh              builds, runs, checks, cleans up
#   image.sh bases        makes stand-ins for the two images that the Dockerfile begins with, where no registry can be reached:
#                         as root, by debootstrap and this machine's own Rust
#
# The engine is DOCKER_HOST's. BUILD_NETWORK=host is for engines without a bridge. Nothing is published: every call is made inside
# of the container, which has no network but its loopback.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

readonly IMAGE=${IMAGE:-countersign:test}
readonly BUILD_IMAGE=rust:1.95-slim-bookworm
readonly RUN_IMAGE=debian:bookworm-slim
readonly BUILD_NETWORK=${BUILD_NETWORK:-default}
# As production should run it.
readonly HARDENED=(--network=none --read-only --cap-drop=ALL --security-opt=no-new-privileges --memory=1g)
readonly CALLERS=COUNTERSIGN_IDENTITY__UNAUTHENTICATED_CALLERS=true
CONTAINER=

fail() { printf 'image.sh: %s\n' "$*" >&2; exit 1; }
figure() { printf '%-44s %s\n' "$1" "$2"; }
now_ms() { date +%s%3N; }
inspect() { docker inspect --format "$1" "$CONTAINER"; }

require() {
  local tool
  for tool in "$@"; do command -v "$tool" >/dev/null || fail "\`$tool\` is not installed"; done
}

bases() {
  require debootstrap rustc docker
  [ "$(id -u)" -eq 0 ] || fail 'debootstrap needs root'
  local folder
  folder=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf --one-file-system '$folder'" EXIT
  debootstrap --variant=minbase bookworm "$folder/run" >/dev/null
  cp -a "$folder/run" "$folder/build"
  chroot "$folder/build" sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates gcc libc6-dev' >/dev/null
  # What this machine trusts: behind a proxy the registry's certificate is the proxy's.
  cp -L /etc/ssl/certs/ca-certificates.crt "$folder/build/etc/ssl/certs/"
  mkdir -p "$folder/build/opt/rust/lib/rustlib"
  local rust
  rust=$(rustc --print sysroot)
  cp -a "$rust/bin" "$folder/build/opt/rust/"
  cp -a "$rust"/lib/*.so* "$folder/build/opt/rust/lib/"
  cp -a "$rust/lib/rustlib/$(rustc --print host-tuple)" "$folder/build/opt/rust/lib/rustlib/"
  rm -rf "$folder"/*/var/lib/apt/lists/* "$folder"/*/var/cache/apt/archives/*.deb
  tar -C "$folder/run" -c . | docker import --change 'CMD ["bash"]' - "$RUN_IMAGE"
  tar -C "$folder/build" -c . | docker import --change 'ENV CARGO_HOME=/usr/local/cargo' \
    --change 'ENV PATH=/usr/local/cargo/bin:/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$BUILD_IMAGE"
}

build() {
  local started
  started=$(now_ms)
  docker build --network="$BUILD_NETWORK" --build-arg REVISION="${REVISION:-unknown}" --tag "$IMAGE" . >&2
  figure 'build' "$((($(now_ms) - started) / 1000)) s"
  figure 'image' "$(($(docker image inspect --format '{{.Size}}' "$IMAGE") / 1000000)) MB"
}

# The crates that the program says it is made of, as `cargo auditable` wrote them into it.
embedded_crates() {
  local folder
  folder=$(mktemp -d)
  docker cp --follow-link "$CONTAINER:/usr/local/bin/countersign" "$folder/countersign" >/dev/null
  figure 'program' "$(($(stat --format %s "$folder/countersign") / 1000000)) MB"
  objcopy --dump-section ".dep-v0=$folder/crates" "$folder/countersign" /dev/null || fail 'the program does not say what it is made of'
  figure 'crates listed in the program' \
    "$(python3 -c 'import json,sys,zlib; print(len(json.loads(zlib.decompress(open(sys.argv[1],"rb").read()))["packages"]))' "$folder/crates")"
  rm -r "$folder"
}

start() {
  CONTAINER=$(docker run --detach "${HARDENED[@]}" --env "$CALLERS" "$IMAGE")
  local line=
  for _ in $(seq 200); do
    line=$(docker logs --timestamps "$CONTAINER" 2>/dev/null | grep '"listening"' || true)
    [ -z "$line" ] || break
    [ "$(inspect '{{.State.Running}}')" = true ] || { docker logs "$CONTAINER" >&2; fail 'it ended'; }
    sleep 0.05
  done
  [ -n "$line" ] || fail 'it does not say that it listens'
  local started listening took
  started=$(date --date "$(inspect '{{.State.StartedAt}}')" +%s%3N)
  listening=$(date --date "${line%% *}" +%s%3N)
  took=$((listening - started))
  figure 'start of the process to serving' "$took ms"
  [ "$took" -lt 1000 ] || fail 'it takes a second or more to serve'
  docker exec "$CONTAINER" countersign health --server 127.0.0.1:50051 || fail 'it does not serve'
}

# Of the process itself, as the kernel sees it.
check_rights() {
  local status
  status=$(docker exec "$CONTAINER" cat /proc/1/status)
  grep -qP '^Uid:\t65532\t65532\t65532\t65532$' <<<"$status" || fail 'it does not run as 65532'
  grep -qP '^CapEff:\t0+$' <<<"$status" || fail 'it has capabilities'
  grep -qP '^NoNewPrivs:\t1$' <<<"$status" || fail 'it may gain privileges'
  if docker exec "$CONTAINER" touch /usr/local/bin/more 2>/dev/null; then fail 'its file system can be written to'; fi
  figure 'resident memory' "$(($(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' <<<"$status") / 1000)) MB"
}

# One of each answer: the exit codes are 0, 3 and 4.
ask() {
  local expected=$1 code=0
  shift
  docker exec "$CONTAINER" countersign authorize --server 127.0.0.1:50051 "$@" >/dev/null || code=$?
  [ "$code" -eq "$expected" ] || fail "exit code $code in place of $expected for: $*"
}

check_answers() {
  ask 0 --principal 'Agent::"capacity-bot"' --action StartInstances --resource 'Environment::"dev"' --context \
    '{"instance_type":"t3.small","count":2,"hourly_cost_cents":4,"region":"eu-central-1","public_ip":false}'
  ask 3 --principal 'Agent::"retrain-bot"' --action ExportData --resource 'Dataset::"customer-profiles"' --context \
    '{"row_count":1,"destination_region":"us-east-1"}'
  ask 4 --principal 'Agent::"deploy-bot"' --action Deploy --resource 'Service::"payments-api"' --justification 'Release 2.5.0' \
    --context '{"version":"2.5.0","migration":false,"provenance":{"builder":"github-actions","commit":"61d0e42"}}'
  figure 'answers' 'ALLOW, DENY, REQUIRE_APPROVAL'
}

check_health() {
  for _ in $(seq 60); do
    [ "$(inspect '{{.State.Health.Status}}')" != healthy ] || { figure 'health, as the engine sees it' healthy; return; }
    sleep 0.5
  done
  fail "the engine takes it for $(inspect '{{.State.Health.Status}}'): $(inspect '{{json .State.Health.Log}}')"
}

stop() {
  local started code
  started=$(now_ms)
  docker stop --time 30 "$CONTAINER" >/dev/null
  code=$(inspect '{{.State.ExitCode}}')
  figure 'stop' "$(($(now_ms) - started)) ms, exit code $code"
  [ "$code" -eq 0 ] || fail 'it did not end in order'
}

# What it left on its volumes is whole: the three decisions, and the approval.
check_log() {
  docker run --rm "${HARDENED[@]}" --volumes-from "$CONTAINER" "$IMAGE" audit verify /var/lib/countersign/audit \
    --heads /var/lib/countersign-heads/heads.txt --approvals /var/lib/countersign/approvals.sqlite >/dev/null ||
    fail 'the audit log cannot be verified'
  figure 'audit log on the volume' intact
}

main() {
  require docker objcopy python3
  trap '[ -z "$CONTAINER" ] || docker rm --force --volumes "$CONTAINER" >/dev/null' EXIT
  build
  figure 'version' "$(docker run --rm "${HARDENED[@]}" "$IMAGE" --version)"
  start
  embedded_crates
  check_answers
  check_rights
  check_health
  stop
  check_log
}

case "${1:-}" in
  '') main ;;
  bases) bases ;;
  *) fail 'usage: image.sh [bases]' ;;
esac
