# xenc for NVIDIA's GPUs: as cpu.Dockerfile, with the CUDA libraries that libtorch and ONNX Runtime need. The host has the
# driver and NVIDIA's container toolkit.
#
#   docker build --file docker/cuda.Dockerfile --tag xenc:cuda .
#   docker run --rm --gpus all --volume "$PWD:/data" xenc:cuda doctor

FROM rust:1.92-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make nasm python3-pip \
    && rm -rf /var/lib/apt/lists/*
# The program looks for libtorch where it was linked with it: the cache has the same place in both stages.
ENV XDG_CACHE_HOME=/opt
WORKDIR /src
COPY . .
RUN make setup-cuda && cargo build --release --locked --bin xenc && strip target/release/xenc

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libstdc++6 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/xenc /opt/xenc
COPY --from=build /src/target/release/xenc /usr/local/bin/xenc
COPY --from=build /src/configs /usr/share/xenc/configs
# What NVIDIA's container toolkit puts into the container: the driver's library for computing, and nvidia-smi.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV XDG_CACHE_HOME=/opt
WORKDIR /data
ENTRYPOINT ["xenc"]
CMD ["--help"]
