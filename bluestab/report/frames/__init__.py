"""Records to tables, a file per table. Every number of a report stands in one of them."""
