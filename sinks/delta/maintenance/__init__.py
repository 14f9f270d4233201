"""Maintenance of the lake's tables: merging small files, expiring old rows, deleting files that nobody needs."""
