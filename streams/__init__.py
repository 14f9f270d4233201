"""Stream workers: the Faust application on the record-batch transport, and the pure steps it runs."""
