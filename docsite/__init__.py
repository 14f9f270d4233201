"""The documentation as a site: `make docs` (Material for MkDocs, strict, with a search that needs no server)."""
