"""From records to answers: tables and figures. Reads the store, never trains, needs no torch."""
