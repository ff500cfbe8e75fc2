#!/usr/bin/env bash
# Cancel jobs. Usage: cancel.sh ID...
#   PBS:  qdel "$@";  LSF:  bkill "$@"
exec scancel "$@"
