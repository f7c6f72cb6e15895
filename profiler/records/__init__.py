"""What a run found: the record, how it is put together and how it is kept."""
