# lbsgd, its frameworks and Horovod on Open MPI, for CPUs or NVIDIA GPUs. docs/docker.md says how to build and run it:
#
#   docker build -t lbsgd .
#   docker build -t lbsgd:cuda --build-arg VARIANT=cuda --build-arg FRAMEWORKS=torch .
#
# Each step is a script in launch/image/. `make image-check` builds the variant for CPUs and tries it.

ARG VARIANT=cpu
ARG CUDA=13.0.2

FROM debian:12.12-slim AS cpu-build
FROM debian:12.12-slim AS cpu-final
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS cuda-build
FROM nvidia/cuda:${CUDA}-base-ubuntu24.04 AS cuda-final

FROM ${VARIANT}-build AS build
ENV PATH=/opt/lbsgd/bin:$PATH
COPY launch/image/install-compilers.sh /image/
RUN /image/install-compilers.sh
ARG VARIANT
ARG FRAMEWORKS=torch,tensorflow
# Where the builds of torch for CPUs are; PyPI has those for GPUs. Empty: pip's own settings know.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY lbsgd lbsgd
COPY backends backends
COPY launch launch
# The cache keeps pip's downloads and Horovod's compiled wheel between builds, and out of the image.
RUN --mount=type=cache,target=/root/.cache launch/image/install-lbsgd.sh
RUN --mount=type=cache,target=/root/.cache launch/image/install-horovod.sh
RUN launch/image/remove-build-files.sh

FROM ${VARIANT}-final
LABEL org.opencontainers.image.title="lbsgd" \
      org.opencontainers.image.description="Large-minibatch SGD for image classifiers: PyTorch or TensorFlow, Horovod over MPI" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/docker.md"
COPY launch/image/install-runtime.sh launch/image/add-user.sh /image/
RUN /image/install-runtime.sh
RUN /image/add-user.sh
COPY launch/image/sshd_config launch/image/ssh_config /etc/ssh/
COPY --from=build /opt/lbsgd /opt/lbsgd
# Ranks that are started through ssh get these from sshd_config. The last one is for hosts that forbid a container's processes to
# read each other's memory, where Open MPI would fail or warn.
ENV PATH=/opt/lbsgd/bin:$PATH \
    OPAL_PREFIX=/opt/lbsgd \
    OMPI_MCA_btl_vader_single_copy_mechanism=none
WORKDIR /workspace
EXPOSE 2222
# By number, so that Kubernetes can see that it is not root.
USER 1000:1000
CMD ["lbsgd", "--help"]
