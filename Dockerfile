# The GPU image: squeeze with everything, on the CUDA build of torch. No GPU is needed to build it.
#   docker build -t squeeze . && docker run --gpus all -v "$PWD:/work" squeeze train --help
FROM python:3.12.11-slim-bookworm

# numba compiles its kernels with its own LLVM; torch.compile needs a C compiler
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc=4:12.2.0-3 libc6-dev=2.36-9+deb12u* \
    && rm -rf /var/lib/apt/lists/*

COPY . /opt/squeeze
WORKDIR /opt/squeeze
# the versions the tests run with; on Linux the index's torch is the CUDA build
RUN pip install --no-cache-dir -c constraints.txt '.[full,plot,data]'

# compiled kernels are kept where any user can write
ENV NUMBA_CACHE_DIR=/var/tmp/squeeze-kernels
RUN useradd --create-home --uid 1000 squeeze
USER 1000
WORKDIR /work
ENTRYPOINT ["squeeze"]
CMD ["--help"]
