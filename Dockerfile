# syntax=docker/dockerfile:1
# Every command in one image, in the versions of constraints.txt.
#   docker build -t fletching .
#   docker run --rm -v "$PWD:/data" fletching tune faq.csv --query question --pos answer -o tuned/
# With CUDA (torch brings CUDA's libraries; the host has the driver and the NVIDIA container toolkit):
#   docker build -t fletching:cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 --build-arg TORCH=cuda .
#   docker run --rm --gpus all -v "$PWD:/data" fletching:cuda doctor
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
ARG TORCH=cpu
ENV DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1

# make installs; CUDA's images have no Python, and Python's has one already.
RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && (command -v python3 >/dev/null || apt-get install -y --no-install-recommends python3 python3-venv) \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/fletching
COPY LICENSE Makefile README.md constraints.txt pyproject.toml ./
COPY scripts/install.sh scripts/install.sh
COPY schemas schemas
COPY examples examples
COPY libs libs
COPY tools tools
RUN make install TORCH=${TORCH}

ENV PATH=/opt/fletching/.venv/bin:${PATH} HF_HOME=/cache/huggingface
RUN useradd --create-home fletching && mkdir -p /data /cache && chown fletching /data /cache
USER fletching
VOLUME /cache
WORKDIR /data
ENTRYPOINT ["fletching"]
CMD ["help"]
