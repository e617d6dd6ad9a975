#!/bin/bash
#SBATCH --job-name=pull
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=00:30:00
# All nodes of the job get the image; the registry sends it about once. Nothing needs to be set up, and no root.
image=${1:-oras://registry.example.com/project/image:1}
sif=${TMPDIR:-/tmp}/image-$SLURM_JOB_ID.sif

srun --ntasks-per-node=1 /usr/bin/dfget run --cluster "$SLURM_JOB_NODELIST" -- \
    apptainer pull --force "$sif" "$image"

srun apptainer exec "$sif" hostname
