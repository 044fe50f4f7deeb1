#!/bin/bash

# Parameters
#SBATCH --account=lab-1
#SBATCH --array=0-11%8
#SBATCH --comment='two words'
#SBATCH --constraint='a100&ib'
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --gres=gpu:a100:2
#SBATCH --job-name=demo-mixbench
#SBATCH --mail-type=END,FAIL
#SBATCH --mem=64G
#SBATCH --nice=5
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output='/data/all runs/demo/slurm/%A_%a_0_log.out'
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --signal=B:USR2@120
#SBATCH --time=1-00:00

# setup
trap 'status=$?; if [ ${#BASH_SOURCE[@]} -eq 1 ]; then echo "setup: exit status $status of the line: $(sed -n "${LINENO}p" "$0")"; exit 1; fi' ERR
module load cuda
ulimit -n 4096
trap - ERR
export PYTHONPATH='/data/all runs/demo/code/0123abcd'${PYTHONPATH:+:$PYTHONPATH}
export PYTHONSAFEPATH=1

# command
export SUBMITIT_EXECUTOR=slurm
exec python3.12 -P -u -m mixbench.slurm.task '/data/all runs/demo' --time-limit 86400 --signal-seconds 120 --device cuda --workers-per-gpu 3 --retries 2 --hang 600
