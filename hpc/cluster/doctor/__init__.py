"""Does a site do what its profile says? What Slurm tells, and what the processes of a job on two nodes see."""
