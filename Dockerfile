# No BuildKit features: any builder can build this. tests/deploy/image.sh builds it, runs it and measures it.
#
#   docker build -t countersign .
#   docker run --rm --read-only --cap-drop=ALL --security-opt=no-new-privileges -p 127.0.0.1:50051:50051 \
#     -e COUNTERSIGN_IDENTITY__UNAUTHENTICATED_CALLERS=true countersign

# Where the program runs. It needs glibc and nothing else, so an image without a shell does as well; the Helm chart's copying of
# keys needs `install` beside it.
ARG RUN_ON=debian:bookworm-slim

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build

# Writes the list of crates into the program, where scanners find it: `cargo audit bin`, trivy, syft.
RUN cargo install cargo-auditable --version 0.7.7 --locked

# The dependencies alone, compiled for stand-ins of our sources: this layer lasts until a manifest changes. Benches and tests
# are not in the image, so their targets leave the manifest; otherwise cargo would look for their files.
COPY Cargo.toml Cargo.lock ./
RUN awk '/^\[/ { skipped = /^\[\[(bench|example|test)\]\]/ } !skipped' Cargo.toml > Cargo.toml.build \
    && mv Cargo.toml.build Cargo.toml \
    && mkdir proto src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs proto/build.rs \
    && cargo auditable build --release --locked

COPY README.md ./
COPY proto proto
COPY policies policies
COPY src src
# Copied files keep their age, and cargo would take them for older than what the stand-ins gave.
RUN touch proto/build.rs src/lib.rs src/main.rs \
    && cargo auditable build --release --locked

# What the last stage cannot make, as it runs nothing: folders that only the server may enter.
RUN install -d -m 0700 -o 65532 -g 65532 /state/countersign /state/countersign-heads

# hadolint ignore=DL3006
FROM ${RUN_ON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Countersign" \
      org.opencontainers.image.description="A policy decision point that answers allow, deny or require approval, from Cedar policies, over gRPC." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Against these the certificates of databases, webhooks and issuers are checked.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /state/countersign /var/lib/countersign
COPY --from=build --chown=65532:65532 /state/countersign-heads /var/lib/countersign-heads
COPY --from=build /build/target/release/countersign /usr/local/bin/countersign
# A configuration for containers and the sample policies; mount your own over them.
COPY deploy/docker/countersign.toml /etc/countersign/countersign.toml
COPY policies /etc/countersign/policies
# Approvals and the audit log; and apart from them, so that they can be kept elsewhere, the copies of the log's heads.
VOLUME ["/var/lib/countersign", "/var/lib/countersign-heads"]
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# By the program itself, at the operators' port: it is never encrypted, so this works whatever clients must show. A configuration of
# your own has to have `server.operators` with this port; else override this by `--health-cmd`.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["countersign", "health", "--operators", "127.0.0.1:9464"]
ENTRYPOINT ["countersign"]
CMD ["serve", "--config", "/etc/countersign/countersign.toml"]
