"""What measures this project; not part of the package that is installed."""
