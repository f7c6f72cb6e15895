"""What a record looks like to a person."""
