#!/usr/bin/env bash
# Say what became of a job: running, success or failed. Usage: status.sh ID
#   PBS:  qstat -x -f "$1" (job_state, Exit_status);  LSF:  bjobs -noheader -o stat "$1"
set -euo pipefail
state=$(squeue --noheader --states=all --jobs="$1" --format=%T 2> /dev/null) || state=""
if [[ -z $state ]]; then # forgotten by squeue; where there are accounts, they remember
    state=$(sacct --noheader --parsable2 --allocations --jobs="$1" --format=State 2> /dev/null) || state=""
fi
case $state in
    COMPLETED*) echo success ;;
    PENDING* | RUNNING* | CONFIGURING* | COMPLETING* | SUSPENDED* | REQUEUE* | RESIZING*) echo running ;;
    *) echo failed ;;
esac
