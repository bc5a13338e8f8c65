"""`forebay load`: from a file to rows of a table."""
