"""Plants small bugs in this project, one at a time, and says which of them the default tests let live."""
