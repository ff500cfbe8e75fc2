#!/usr/bin/env bash
# Submit a job script and print its id. Usage: submit.sh THREADS MEMORY_MB MINUTES SCRIPT
#   PBS:  qsub -l select=1:ncpus=$1:mem=$2mb -l walltime=00:$3:00 "$4"
#   LSF:  bsub -n $1 -M $2 -W $3 < "$4" | grep -o '[0-9]*' | head -n 1
set -euo pipefail
mkdir -p .snakemake/cluster_logs
sbatch --parsable --cpus-per-task="$1" --mem="$2" --time="$3" \
    --output=.snakemake/cluster_logs/%j.log "$4" | cut -d ';' -f 1
