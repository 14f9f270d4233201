"""Mutation testing of the pure modules: `make mutants`. Why it is a runner of our own: docs/adr/0022-mutants.md."""
