"""Everything on record, as files that an import reads."""
