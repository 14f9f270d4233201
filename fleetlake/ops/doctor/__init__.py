"""`fleetlake doctor`: what is wrong with a running pipeline, in plain words, and what to do."""
