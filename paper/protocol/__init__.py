"""The wire: paths, parameters, field names and types of the exchange being imitated."""
