# Fanfare in a container: the server and nothing else, not as root. See docs/OPERATING.md, Containers.
#
#   docker build -t fanfare .
#   docker run -p 8000:8000 -v ./fanfare.toml:/fanfare.toml:ro -e FANFARE_CONFIG=/fanfare.toml fanfare
#
# On an address that others reach the server starts only with API keys in its configuration; to try it without,
#   docker run -p 127.0.0.1:8000:8000 -e FANFARE_INSECURE_OPEN=true fanfare

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package fanfare --bin fanfare

# The C library, the certificates, and neither a shell nor a package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/fanfare /usr/local/bin/fanfare
# The number too, so that a platform that wants to see that it is not root can.
USER 65532:65532
ENV FANFARE_LISTEN=0.0.0.0:8000 FANFARE_LOG=json
EXPOSE 8000
# SIGTERM, which drains. Give it as long as --drain-delay and --drain-duration take, and 15 s more (docker stop --time).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/usr/local/bin/fanfare", "health"]
ENTRYPOINT ["/usr/local/bin/fanfare"]
