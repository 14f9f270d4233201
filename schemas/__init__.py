"""The contract: what travels on the topics and is stored in the tables.

Every other package imports this one; it imports none of them. `records` holds the models as pydantic
(the documented contract, source of the JSON Schemas), `wire` their msgspec twins for hot paths, `envelope` the raw
record, `topics` the names, `metrics` the catalogue of metrics, `timestamps` the reading of vendors' times.
"""
