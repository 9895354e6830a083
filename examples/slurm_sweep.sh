#!/usr/bin/env bash
#SBATCH --job-name=mogrid-sweep
#SBATCH --array=0-15
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=4G
#SBATCH --time=04:00:00
#SBATCH --signal=INT@300
#SBATCH --requeue
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#
# One sweep on a Slurm cluster: sbatch examples/slurm_sweep.sh sweep.yaml /shared/runs [options of mogrid sweep]
#
# All tasks of the array run the same command on the same store, which must lie on a file system that the nodes share,
# with locks that hold between nodes (NFS 4, Lustre mounted with flock, GPFS). Whichever task is free claims the next
# run; none has a part of its own, so that any number of tasks, started at any time, and also again, makes one sweep.
#
# --signal sends SIGINT five minutes before the time is up: runs stop at a checkpoint and mogrid exits with code 3. The
# task then queues itself again, and any task goes on from those checkpoints. A killed task loses what came after its
# last checkpoint, nothing else.

set -euo pipefail

if (($# < 2)); then
    echo "usage: sbatch $0 SWEEP.yaml STORE [options of mogrid sweep]" >&2
    exit 2
fi
config=$1
store=$2
shift 2

# One thread for each run, as many runs as the task has cores; the variables hold for the parent, which measures costs.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1

# srun makes the command a job step of its own: that is whom --signal reaches.
code=0
srun --ntasks=1 \
    mogrid sweep "$config" --store "$store" --workers "${SLURM_CPUS_PER_TASK:-1}" "$@" || code=$?

if ((code == 3)); then
    # This element of the array, not all of it.
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
