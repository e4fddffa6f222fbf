# syntax=docker/dockerfile:1
# Base images are arguments so that a mirror, or an image made without a registry, can stand in.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# Dependencies first, against an empty crate: this layer is rebuilt only when Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src examples tests/suite \
 && echo 'fn main() {}' | tee src/main.rs > build.rs && touch src/lib.rs tests/suite/main.rs tests/tidy.rs \
 && cargo build --profile dist --locked --features otel --bin orderstream \
 && rm -rf src build.rs
COPY src ./src
COPY build ./build
COPY build.rs openapi.yaml docker-compose.yml .env.example ./
# Shown as the commit of each node; the build cannot read it, since `.git` is not copied.
ARG ORDERSTREAM_COMMIT
# Cargo goes by modification times; the copied files may be older than the empty crate.
RUN find src build.rs -name '*.rs' -exec touch {} + && cargo build --profile dist --locked --features otel --bin orderstream && mkdir /data

FROM ${RUNTIME_IMAGE}
COPY --from=build /src/target/dist/orderstream /usr/local/bin/orderstream
# A volume that is mounted here takes over the owner. `./data`, the default data folder, is this one.
COPY --from=build --chown=65532:65532 /data /data
WORKDIR /
# PORT makes the public listener reachable from outside (0.0.0.0); a platform's own PORT takes its place.
# The program then insists on secrets and tokens.
ENV PORT=8080 \
    ORDERSTREAM_LOG_FORMAT=json
EXPOSE 8080
USER 65532:65532
STOPSIGNAL SIGTERM
# Exec form: there is no shell in this image.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["/usr/local/bin/orderstream", "health"]
ENTRYPOINT ["/usr/local/bin/orderstream"]
CMD ["run"]
