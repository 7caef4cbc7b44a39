# xenc for processors: the program with libtorch and ONNX Runtime.
#
#   docker build --file docker/cpu.Dockerfile --tag xenc .
#   docker run --rm --volume "$PWD:/data" xenc store validate obj36.tsv

FROM rust:1.92-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make nasm python3-pip \
    && rm -rf /var/lib/apt/lists/*
# The program looks for libtorch where it was linked with it: the cache has the same place in both stages.
ENV XDG_CACHE_HOME=/opt
WORKDIR /src
COPY . .
RUN make setup && cargo build --release --locked --bin xenc && strip target/release/xenc

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libstdc++6 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/xenc /opt/xenc
COPY --from=build /src/target/release/xenc /usr/local/bin/xenc
COPY --from=build /src/configs /usr/share/xenc/configs
ENV XDG_CACHE_HOME=/opt
WORKDIR /data
ENTRYPOINT ["xenc"]
CMD ["--help"]
