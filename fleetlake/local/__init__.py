"""The whole pipeline on one machine: its processes, their supervision, the embedded broker."""
