# No BuildKit features: any builder can build this.
#
#   docker build -t countersign .
#   docker run --rm --read-only --cap-drop=ALL -p 127.0.0.1:50051:50051 countersign

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build

# The dependencies alone, compiled for stand-ins of our sources: this layer lasts until a manifest changes. Benches and tests
# are not in the image, so their targets leave the manifest; otherwise cargo would look for their files.
COPY Cargo.toml Cargo.lock ./
RUN awk '/^\[/ { skipped = /^\[\[(bench|example|test)\]\]/ } !skipped' Cargo.toml > Cargo.toml.build \
    && mv Cargo.toml.build Cargo.toml \
    && mkdir proto src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs proto/build.rs \
    && cargo build --release --locked

COPY README.md ./
COPY proto proto
COPY policies policies
COPY src src
# Copied files keep their age, and cargo would take them for older than what the stand-ins gave.
RUN touch proto/build.rs src/lib.rs src/main.rs \
    && cargo build --release --locked

FROM debian:bookworm-slim
COPY --from=build /build/target/release/countersign /usr/local/bin/countersign
# The sample policies; mount your own over them.
COPY policies /etc/countersign/policies
# Where approvals are kept, unless they are told to be in PostgreSQL.
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/countersign
ENV COUNTERSIGN_APPROVALS__PATH=/var/lib/countersign/approvals.sqlite
VOLUME /var/lib/countersign
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 50051
STOPSIGNAL SIGTERM
ENTRYPOINT ["countersign"]
# A container's loopback is reachable from nowhere, hence every address; publish the port where you want it.
CMD ["serve", "--policies", "/etc/countersign/policies", "--listen", "0.0.0.0:50051"]
