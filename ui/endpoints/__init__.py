"""The endpoints of the live page, one module per page."""
