#!/bin/sh
#SBATCH --job-name=mra-sweep
#SBATCH --cpus-per-task=4
#SBATCH --time=2-00:00:00
#SBATCH --requeue
#SBATCH --output=build/plan/slurm-%A_%a.txt
# The runs of a plan as a Slurm job array: task N of the array is the plan's row N.
#
#     sh experiments/plan.sh --profile paper
#     sbatch --array=1-80%20 --export=ALL,PROFILE=paper experiments/sweep-slurm.sh
#
# from the root of the checkout, on a file system that the nodes see; MRA_DATA names the folder of the data. --array=1-LAST%AT-A-TIME:
# `sh experiments/plan.sh` says how many rows there are. A task that runs into its time limit continues from its checkpoint when it is
# queued again; rows that are done end at once. Threads are those that Slurm gives the task.
set -eu
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
[ -n "${SLURM_ARRAY_TASK_ID:-}" ] || {
    echo "sweep-slurm: not a task of a job array; submit with: sbatch --array=1-LAST experiments/sweep-slurm.sh" >&2
    exit 2
}
exec sh experiments/sweep.sh --profile "${PROFILE:-laptop}" --threads "${SLURM_CPUS_PER_TASK:-1}" --row "$SLURM_ARRAY_TASK_ID"
