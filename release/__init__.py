"""What is done before a release: `make release-check`, `make sbom`, `make audit`. Not part of the package."""
