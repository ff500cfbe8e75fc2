# An image with the package, its pinned dependencies and the workflow:
#   docker build -t trajectory .
#   docker run --rm -v "$PWD/results:/opt/trajectory/results" trajectory --cores 8 all
# For Apptainer: docker save trajectory -o trajectory.tar && apptainer build trajectory.sif docker-archive:trajectory.tar
FROM python:3.11-slim

# PyTorch's build without CUDA; leave it empty on a machine with an NVIDIA GPU.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /opt/trajectory
COPY . .
RUN PIP_CONSTRAINT=constraints.txt pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[cluster]' \
    && rm -r trajectory build

ENTRYPOINT ["snakemake"]
CMD ["--help"]
