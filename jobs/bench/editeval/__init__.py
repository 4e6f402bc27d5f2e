"""EditEval: methods and recipes on the survey's benchmark, scored by a judge."""
