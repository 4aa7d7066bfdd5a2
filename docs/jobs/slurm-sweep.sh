#!/bin/bash
# Ten runs that know nothing of each other, ten seeds each: sbatch docs/jobs/slurm-sweep.sh
#SBATCH --job-name=lenet-sweep
#SBATCH --array=0-9
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --requeue

seeds=$(seq -s ' ' $((10 * SLURM_ARRAY_TASK_ID)) $((10 * SLURM_ARRAY_TASK_ID + 9)))
# shellcheck disable=SC2086 # a list of numbers
srun python -m lenet_jax.train --config classic --seeds $seeds \
  --workdir "$SLURM_SUBMIT_DIR/runs/classic-$SLURM_ARRAY_TASK_ID"
