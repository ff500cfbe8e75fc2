#!/usr/bin/env bash
# Say what became of a job: running, success or failed. Usage: status.sh ID
#   PBS:  qstat -x -f "$1" (job_state, Exit_status);  LSF:  bjobs -noheader -o stat "$1"
# A scheduler that does not answer has not said that the job failed: another one would be submitted.
set -euo pipefail
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

# Print what a command answers; an error that names no job, or that there are no accounts, is none.
ask() {
    "$@" 2> "$errors" && return
    grep -qiE "invalid job id|accounting storage is disabled|command not found" "$errors"
}

state=$(ask squeue --noheader --states=all --jobs="$1" --format=%T) || { echo running; exit; }
if [[ -z $state ]]; then # forgotten by squeue; where there are accounts, they remember
    state=$(ask sacct --noheader --parsable2 --allocations --jobs="$1" --format=State) || { echo running; exit; }
fi
case $state in
    COMPLETED*) echo success ;;
    PENDING* | RUNNING* | CONFIGURING* | COMPLETING* | SUSPENDED* | REQUEUE* | RESIZING*) echo running ;;
    *) echo failed ;;
esac
