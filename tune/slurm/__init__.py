"""From a spec to a job of SLURM: its script, and what the script calls inside the job."""
