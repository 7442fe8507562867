"""Problems that a person brings: files of several forms, and what is wrong with them; not the benchmarks."""
