"""The contract: what travels on the topics and stands in the tables.

Every other package imports from here and none is imported by it. `records` holds the models as pydantic
(the documented contract, source of the JSON Schemas), `wire` their msgspec twins for hot paths, `envelope` the raw
record, `topics` the names, `metrics` the catalogue of metrics, `timestamps` the reading of vendors' times.
"""
