"""SQL of viewers: in processes of its own, which may read the tables and nothing else."""
