"""Which subject areas moved: categories, prediction, measured outcomes, evaluation."""
