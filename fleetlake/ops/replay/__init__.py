"""`fleetlake replay`: makes the tables anew from the raw records, in another lake."""
