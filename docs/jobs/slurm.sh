#!/bin/bash
# One run on four nodes: sbatch docs/jobs/slurm.sh
#SBATCH --job-name=lenet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1 # with GPUs one task for each: jax gives a task the GPU of its number
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60 # a minute to save before the time is up

# The folder is one that all nodes see. The same command goes on from the last checkpoint: 42 is
# "interrupted and saved", 43 "another process was lost".
srun --kill-on-bad-exit=0 python -m lenet_jax.train --config classic --seeds 40 \
  --workdir "$SLURM_SUBMIT_DIR/runs/classic-40"
code=$?
case $code in 42 | 43) scontrol requeue "$SLURM_JOB_ID" ;; esac
exit $code
