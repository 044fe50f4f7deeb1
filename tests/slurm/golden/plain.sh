#!/bin/bash

# Parameters
#SBATCH --array=0-11%12
#SBATCH --job-name=demo-mixbench
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output='/data/all runs/demo/slurm/%A_%a_0_log.out'
#SBATCH --requeue
#SBATCH --signal=B:USR2@90
#SBATCH --time=30

# setup
export PYTHONPATH='/data/all runs/demo/code/0123abcd'${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1

# command
export SUBMITIT_EXECUTOR=slurm
exec PYTHON -P -u -m mixbench.slurm.task '/data/all runs/demo' --time-limit 1800 --signal-seconds 90 --device cpu --retries 2 --hang 600
