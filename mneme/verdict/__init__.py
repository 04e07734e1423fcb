"""What is said of a run: one vocabulary, the category's verdict, the calls held against outcomes, the run's verdict."""
